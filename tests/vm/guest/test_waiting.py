"""Waiting for something in a real machine, and being told why it did not come."""

import pytest

from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.vm import Machine


def test_until_succeeds(machine: Machine) -> None:
    machine.exec("rm -f /tmp/go; (sleep 0.3; touch /tmp/go) >/dev/null 2>&1 &")
    assert machine.wait_until_succeeds("test -e /tmp/go && echo yes").stdout == "yes\n"


def test_in_vain_shows_the_last_attempt(machine: Machine) -> None:
    with pytest.raises(TimeoutExpiredError, match=r"exit code 4(?s:.*)not yet"):
        machine.wait_until_succeeds("echo not yet; exit 4", timeout=2)


def test_for_a_file(machine: Machine) -> None:
    machine.exec("mkdir -p /tmp/w; (sleep 0.2; echo x > /tmp/w/late) >/dev/null 2>&1 &")
    machine.wait_for_file("/tmp/w/late")
    with pytest.raises(TimeoutExpiredError, match=r"never(?s:.*)late"):
        machine.wait_for_file("/tmp/w/never", timeout=0.2)


def test_for_a_port(machine: Machine) -> None:
    machine.exec("mkdir -p /srv/www; (sleep 0.2; httpd -p 8080 -h /srv/www) >/dev/null 2>&1 &")
    machine.wait_for_port(8080)
    with pytest.raises(TimeoutExpiredError, match=r"8081(?s:.*)8080"):
        machine.wait_for_port(8081, timeout=0.2)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_for_no_port(machine: Machine, port: int) -> None:
    with pytest.raises(InvalidError, match=str(port)):
        machine.wait_for_port(port)
