"""A service: a fixture of your own that starts it, and tests that talk to it."""

import pytest

from core_infra.vm import Machine

PORT = 8080


@pytest.fixture
def web_server(core_vm: Machine) -> Machine:
    """A machine that serves a page.

    Fixtures build on ``core_vm`` like on any other fixture. Nothing needs to be stopped or removed
    at the end: the server ends with its machine.
    """
    core_vm.write_text("/srv/index.html", "It works.\n")
    core_vm.exec(f"httpd -p {PORT} -h /srv", check=True)
    # httpd runs in the background. Wait until it listens instead of sleeping.
    core_vm.wait_for_port(PORT)
    return core_vm


def test_the_page_is_served(web_server: Machine) -> None:
    page = web_server.exec(f"wget -qO- http://localhost:{PORT}/", check=True)
    assert page.stdout == "It works.\n"


def test_a_missing_page_is_an_error(web_server: Machine) -> None:
    answer = web_server.exec(f"wget -qO- http://localhost:{PORT}/missing")
    assert answer.exit_code != 0
    assert "404" in answer.stderr


def test_follow_a_program_while_it_runs(core_vm: Machine) -> None:
    # exec waits for the end; stream gives you the lines as they come.
    with core_vm.stream("echo starting; while true; do date; sleep 1; done") as clock:
        lines = iter(clock)
        assert next(lines) == "starting"
        assert "UTC" in next(lines)
    # The end of the block ends the program.
