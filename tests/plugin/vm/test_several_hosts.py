"""A suite on several hosts by pytest-xdist: two SSH servers of this host with their own files."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core_infra.vm._cache import cache_root
from support import left_in

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
SEPARATION = Path("/run/sshd")
"""What a server that root has started needs; the package's service makes it."""

HOSTS = ("one", "two")
SUITE = """\
import os
import pytest

@pytest.mark.parametrize("number", range(6))
def test_machines(core_vm_factory, core_network, core_process, number):
    net = core_network()
    a, _ = (core_vm_factory(name=name, networks=[net]) for name in "ab")
    a.exec("ping -c 1 b", check=True)
    print("ran on", os.environ["HOST_NAME"])

def test_that_fails(core_vm):
    core_vm.exec("echo seen on its host", check=True)
    raise AssertionError
"""
# A server for each connection, on its standard streams: no port, and nothing that stays.
CLIENT = """\
Host {name}
  ProxyCommand {sshd} -i -f {directory}/{name}.conf
  User {user}
  IdentityFile {directory}/key
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""
SERVER = """\
HostKey {directory}/host-key
AuthorizedKeysFile {directory}/key.pub
PidFile none
StrictModes no
UsePAM no
SetEnv TMPDIR={directory}/{name} HOST_NAME={name} CORE_INFRA_CACHE_DIR={cache}
"""


@pytest.mark.soak
@pytest.mark.skipif(SSHD is None, reason="sshd is missing: apt-get install openssh-server")
@pytest.mark.skipif(
    os.geteuid() == 0 and not os.access(SEPARATION.parent, os.W_OK), reason="root's sshd cannot run"
)
def test_a_suite_goes_to_several_hosts(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if os.geteuid() == 0 and not SEPARATION.exists():
        SEPARATION.mkdir(mode=0o755)
        request.addfinalizer(SEPARATION.rmdir)
    for key in ("key", "host-key"):
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", tmp_path / key], check=True)
    client = tmp_path / "client.conf"
    values = {"directory": tmp_path, "sshd": SSHD, "user": getpass.getuser(), "cache": cache_root()}
    with client.open("w") as file:
        for name in HOSTS:
            (tmp_path / name).mkdir()
            (tmp_path / f"{name}.conf").write_text(SERVER.format(**values, name=name))
            file.write(CLIENT.format(**values, name=name))
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_it.py").write_text(SUITE)

    def worker(name: str) -> str:
        place = f"python={sys.executable}//chdir={tmp_path / name / 'work'}"
        return f"--tx=2*ssh={name}//ssh_config={client}//{place}"

    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--core-vm=require", "-rP", "-p", "no:cacheprovider"),
            *map(worker, HOSTS),
            *("--dist=load", f"--rsyncdir={suite}", suite),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "6 passed" in result.stdout, result.stdout + result.stderr
    assert "1 failed" in result.stdout
    assert {name for name in HOSTS if f"ran on {name}" in result.stdout} == set(HOSTS)
    assert "seen on its host" in result.stdout, "reports come from the hosts"
    assert "core_vm: 13 machines" in result.stdout
    for name in HOSTS:
        (runs,) = (tmp_path / name).glob("core-infra-*")
        assert left_in(runs) == []
    marks = [f"HOST_NAME={name}\0".encode() for name in HOSTS]
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
        except OSError:
            continue  # it has ended, or is another user's
        assert not any(mark in environment for mark in marks), path
