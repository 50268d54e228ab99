"""A core for each test, with the services that the test asks for, and shut down whatever fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from core_infra.framework import Core

SERVICE = """
import pytest
from core_infra.framework import CoreStatus, service_for, with_name

class Service:
    def __init__(self, core):
        self.core = core

    def on_startup(self):
        print("started")

    def on_shutdown(self):
        print("shut down")
        {at_shutdown}

@pytest.fixture
def core_services():
    return [with_name("mine", Service)]
"""


def test_without_services_it_is_a_bus_of_the_tests_own(core: Core) -> None:
    seen: list[object] = []
    core.register_action(seen.append)
    core.action("message")
    assert seen == ["message"]


def test_it_is_started_and_has_the_services_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        SERVICE.format(at_shutdown="")
        + """
def test_first(core):
    assert core.status is CoreStatus.RUNNING
    assert service_for(core, "mine", Service).core is core

def test_it_may_be_shut_down_early(core):
    core.shutdown()

class TestOther:
    @pytest.fixture
    def core_services(self):
        return []

    def test_none(self, core):
        assert repr(core) == "<Core running: >"
"""
    )
    pytester.runpytest().assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [("pass", {"passed": 1}), ("assert 0", {"failed": 1}), ("raise KeyboardInterrupt", {})],
)
def test_it_is_shut_down_whatever_happens(
    pytester: pytest.Pytester, body: str, outcome: dict[str, int]
) -> None:
    pytester.makepyfile(SERVICE.format(at_shutdown="") + f"def test_it(core): {body}")
    result = pytester.runpytest_subprocess("-s")  # an interrupt would end this run too
    result.assert_outcomes(**outcome)
    assert result.stdout.str().count("shut down") == 1


def test_a_shutdown_that_fails_is_an_error_of_the_test(pytester: pytest.Pytester) -> None:
    at_shutdown = "raise OSError('stuck')"
    pytester.makepyfile(SERVICE.format(at_shutdown=at_shutdown) + "def test_it(core): assert 0")
    result = pytester.runpytest()
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*ShutdownError: services could not be shut down: OSError: stuck*"]
    )
