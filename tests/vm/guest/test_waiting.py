"""Waiting for something in a real machine, and being told why it did not come."""

import pytest

from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.vm import GuestCommandTimeoutError, Machine
from core_infra.vm._guest.results import WaitResult


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


def test_all_attempts_are_one_step_of_the_history(machine: Machine) -> None:
    machine.exec("echo mine")
    with pytest.raises(TimeoutExpiredError):
        machine.wait_for_port(4321, timeout=1)
    machine.wait_for_file("/etc")
    with pytest.raises(TimeoutExpiredError):
        machine.wait_until_succeeds("echo no; exit 7", timeout=1)
    mine, port, file, command = list(machine.history)[-4:]
    assert mine.stdout == "mine\n"
    assert isinstance(port, WaitResult)
    assert not port.reached
    assert "4321" in port.goal
    assert "listened on" in port.seen
    assert isinstance(file, WaitResult)
    assert (file.reached, file.attempts, file.seen) == (True, 1, "")
    assert isinstance(command, WaitResult)
    assert (command.reached, command.exit_code, command.stdout) == (False, 7, "no\n")
    assert command.attempts > 1


def test_a_last_attempt_that_does_not_end_is_one_step(machine: Machine) -> None:
    with pytest.raises(GuestCommandTimeoutError):
        machine.wait_until_succeeds("echo here; sleep 1000", timeout=0.5)
    step = machine.history[-1]
    assert isinstance(step, WaitResult)
    assert (step.reached, step.attempts, step.stdout) == (False, 1, "here\n")
