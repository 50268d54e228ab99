"""A login by SSH, into the default image with Debian's dropbear put into it."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import linuxkit_standin as standin
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.vm import GuestOperationError
from core_infra.vm._access.interface import NoAccessError
from core_infra.vm._access.ssh import SshAccess, make_key
from core_infra.vm._cache import cache_root
from core_infra.vm._ssh_login import SshLogin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core_infra.vm import Launcher, Machine

LIBRARIES = (
    "ld-linux*.so.*",
    "libc.so.6",
    "libcrypt.so.1",
    "libgmp.so.10",
    "libtomcrypt.so.1",
    "libtommath.so.1",
    "libz.so.1",
)
has_client = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh client")


@pytest.fixture(scope="module")
def server(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with an SSH server; its snapshot ``fresh`` has seen no login."""
    try:
        root = standin.unpack(standin.PACKAGES, cache_root(), tmp_path_factory.mktemp("root"))
    except CoreInfraError as error:
        pytest.skip(f"needs Debian's dropbear: {error}")
    libraries = tmp_path_factory.mktemp("libraries")
    for name in LIBRARIES:
        found = next(root.rglob(f"*-linux-gnu/{name}"))
        shutil.copy(found, libraries)
    machine = launcher.clone()
    machine.push(libraries, "/usr/lib")
    machine.push(root / "usr/sbin/dropbear", "/usr/bin/")
    machine.exec(
        "mkdir -p /etc/dropbear /lib /lib64;"
        " for place in /lib /lib64; do ln -s /usr/lib/ld-linux* $place; done;"
        " setsid dropbear -F -E -R -s >/tmp/log 2>&1 &",
        check=True,
    )
    machine.wait_for_port(22)
    machine.snapshot("fresh")
    yield machine
    launcher.discard(machine)


def run(login: SshLogin, *argv: str) -> bytes:
    """What a command writes that is run by asyncssh, which trusts the known host only."""
    host, _, key = login.known_hosts.read_text().partition(" ")
    assert host == f"[127.0.0.1]:{login.port}"
    pinned = login.known_hosts.with_name("pinned")
    pinned.write_text(key)
    access = SshAccess(login.port, user=login.user, key=login.key, pinned=pinned, timeout=30)
    with contextlib.closing(access), access.start(argv) as process:
        return b"".join(data for _, data in process.chunks())


def test_a_login_is_for_the_user_and_repeats(server: Machine) -> None:
    server.exec("mkdir -m 775 .ssh && printf 'a key' >.ssh/authorized_keys", user="tester")
    login = server.ssh("tester")
    assert (login.host, login.port, login.user) == ("127.0.0.1", server.port(22), "tester")
    assert run(login, "id", "-un") == b"tester\n"
    assert login.key.stat().st_mode & 0o077 == 0
    steps = len(server.history)
    assert server.ssh("tester") == login
    assert len(server.history) == steps, "what we do for it is no step of the test's"
    keys = server.read_text("/home/tester/.ssh/authorized_keys").splitlines()
    assert keys[0] == "a key"
    assert len(keys) == 2
    modes = server.exec("cd /home/tester; stat -c '%U %a' .ssh .ssh/authorized_keys").stdout
    assert modes.split()[0::2] == ["tester", "tester"]
    assert all(int(mode, 8) & 0o022 == 0 for mode in modes.split()[1::2])
    assert run(server.ssh(), "id", "-un") == b"root\n"


@has_client
def test_the_clients_of_openssh_take_it(server: Machine, tmp_path: Path) -> None:
    login = server.ssh()
    argv = login.command(["printf", "%s", "a 'b' $HOME"])
    assert subprocess.check_output(argv, timeout=60) == b"a 'b' $HOME"
    assert subprocess.check_output(login.command("echo $HOME"), timeout=60) == b"/root\n"
    asked = subprocess.check_output(f"{login} hostname", shell=True, text=True, timeout=60)  # noqa: S602 - it is a line for a shell
    assert asked == server.exec("hostname").stdout

    imposter = tmp_path / "known_hosts"
    imposter.write_text(f"[{login.host}]:{login.port} {make_key(tmp_path / 'other')}\n")
    login = SshLogin(login.port, login.user, login.key, imposter)
    refused = subprocess.run(login.command("true"), capture_output=True, check=False, timeout=60)
    assert refused.returncode == 255
    assert b"verification failed" in refused.stderr


@has_client
def test_odd_paths_reach_openssh_as_they_are(tmp_path: Path) -> None:
    login = SshLogin(7, "me", tmp_path / 'a "k%y" \\', tmp_path / "known hosts")
    argv = login.command()
    shown = subprocess.check_output([argv[0], "-G", *argv[1:]], text=True, timeout=60)
    settings = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    assert settings["identityfile"].replace("%%", "%") == str(login.key)
    assert settings["userknownhostsfile"].strip('"') == str(login.known_hosts)
    assert (settings["port"], settings["user"]) == ("7", "me")
    assert shlex.split(str(login)) == argv
    assert login.scp("a:b", ":/b")[-2:] == ["a:b", "127.0.0.1:/b"]


def test_a_machine_that_was_reverted_takes_the_key_anew(server: Machine) -> None:
    before = server.ssh()
    server.revert("fresh")
    after = server.ssh()
    assert (after.port, after.key) == (before.port, before.key)
    assert run(after, "id", "-un") == b"root\n"


def test_what_is_in_the_way_is_said(server: Machine, machine: Machine) -> None:
    with pytest.raises(
        NoAccessError, match=r"nothing there listens on port 22(.|\n)*wait_for_port"
    ):
        machine.ssh()
    with pytest.raises(GuestOperationError, match="nobody2"):
        server.ssh("nobody2")
    with pytest.raises(NoAccessError, match=r"a key for daemon(.|\n)*mkdir"):
        server.ssh("daemon")
    server.exec("chmod 777 /home/tester", check=True)
    with pytest.raises(NoAccessError, match=r"does not let tester in(.|\n)*denied"):
        server.ssh("tester")


def test_without_asyncssh_the_error_says_what_to_install(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(UnavailableError, match=r"pip install core-infra\[ssh\]"):
        machine.ssh()
