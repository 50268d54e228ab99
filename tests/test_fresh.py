"""The bare systems of `nox -s fresh`: what they learn of this host, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from inside import Order
from takeover import NoSourceError, named_paths, pip_configuration, repositories, shared

from support import wait_gone

TARGETS = """\
http://one.test/debian/ bookworm main
http://one.test/debian/ bookworm contrib
http://one.test/debian/ bookworm main
https://two.test/security/ bookworm-security main
http://three.test/other/ stable main
"""
CONFIGURATION = """\
:env:.cert='/certificates/ours.pem'
:env:.user='yes'
global.extra-index-url='file:///packages%20here/simple\\nhttps://index.test/simple'
install.find-links='/wheels'
"""


def test_the_sources_are_those_of_the_hosts_distribution_for_another_release() -> None:
    lines = [one.line("trixie") for one in repositories(TARGETS, "bookworm")]
    assert lines == [
        "deb http://one.test/debian/ trixie main contrib",
        "deb https://two.test/security/ trixie-security main",
    ]
    with pytest.raises(NoSourceError, match="no source of noble"):
        repositories(TARGETS, "noble")


def test_pip_finds_what_it_finds_here(tmp_path: Path) -> None:
    parser = pip_configuration(CONFIGURATION)
    with (tmp_path / "pip.conf").open("w") as file:
        parser.write(file)
    listed = subprocess.check_output(
        [sys.executable, "-m", "pip", "config", "list"],
        env={"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PATH": os.environ["PATH"]},
        text=True,
    )
    assert "cert='/certificates/ours.pem'" in listed
    assert r"extra-index-url='file:///packages%20here/simple\nhttps://index.test/simple'" in listed
    assert "install.find-links='/wheels'" in listed
    assert ":env:.user" not in listed
    assert "global.user" not in listed
    places = ["/certificates/ours.pem", "/packages here/simple", "/wheels"]
    assert named_paths(parser) == [Path(place) for place in places]


def test_an_index_is_there_with_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    assert shared(Path("/srv/simple"), tmp_path) == Path("/srv/simple")
    assert shared(Path("/srv/index/simple"), tmp_path) == Path("/srv/index")


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """To be carried out in a root that is made of this system's /usr."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    for name in ("dev", "proc", "sys", "tmp"):
        (tmp_path / name).mkdir()
    for name in ("bin", "lib", "lib64"):
        (tmp_path / name).symlink_to(f"usr/{name}")
    tmp_path.chmod(0o755)  # whoever runs the command must get at its root
    return Order(str(tmp_path), [], env={"PATH": "/usr/bin"}, read_only=["/usr"])


def carry_out(order: Order, script: str) -> subprocess.CompletedProcess[str]:
    order.argv = ["sh", "-c", script]
    return subprocess.run(order.command(), capture_output=True, text=True, check=False)


def test_a_command_is_started_as_by_nohup_in_a_system_of_its_own(order: Order) -> None:
    order.uid = 65534
    done = carry_out(
        order,
        "grep SigIgn /proc/self/status; ls /; id -u; test -t 0 || echo no terminal;"
        "unshare --user true && echo namespaces; touch /usr/file; exit 7",
    )
    assert done.stdout.split()[:2] == ["SigIgn:", "0000000000000007"]
    assert done.stderr.count("\n") == 1, done.stderr
    listed = ["bin", "dev", "lib", "lib64", "proc", "sys", "tmp", "usr", "65534", "no", "terminal"]
    assert done.stdout.split()[2:] == [*listed, "namespaces"]
    assert "Read-only file system" in done.stderr
    assert done.returncode == 7
    assert order.root not in Path("/proc/self/mounts").read_text()


def test_what_a_command_leaves_behind_fails_it(order: Order) -> None:
    done = carry_out(order, "sleep 61 & exit 0")
    assert done.returncode == 1
    assert "sleep 61" in done.stderr
    assert carry_out(order, "sleep 0.2 & exit 0").returncode == 0


def test_killed_it_leaves_no_process(order: Order) -> None:
    order.argv = ["sh", "-c", "sleep 61 & echo begun; wait"]
    with subprocess.Popen(order.command(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (first,) = map(int, children)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert process.stdout.read() == "", "the last one that could write has ended"
    wait_gone(first)
