from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from core_infra.vm import Machine

is_installed = pytest.mark.skipif(
    importlib.util.find_spec("testinfra") is None, reason="pytest-testinfra is not installed"
)


@is_installed
def test_a_machine_is_a_host(machine: Machine) -> None:
    host = machine.testinfra()
    passwd = host.file("/etc/passwd")
    assert passwd.exists
    assert (passwd.user, passwd.mode) == ("root", 0o644)
    assert passwd.contains("tester")
    assert not host.file("/no such file").exists
    assert host.user("tester").exists
    assert host.run("exit 3").rc == 3
    assert host.check_output("printf %%s %s", "a 'b' ü") == "a 'b' ü"
    assert machine.testinfra(user="tester").check_output("id -un") == "tester"
    with pytest.raises(AssertionError):
        host.run_expect([0], "false")


@is_installed
@pytest.mark.parametrize("module", ["service", "package"])
def test_what_the_default_image_lacks_is_said(machine: Machine, module: str) -> None:
    with pytest.raises(UnavailableError, match=f"the default image has no {module}s"):
        getattr(machine.testinfra(), module)("nginx")


def test_without_the_library_the_error_says_what_to_install(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "testinfra.backend.base", None)
    with pytest.raises(UnavailableError, match="not installed"):
        machine.testinfra()
