"""Services and the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.framework._core import Core, NamedFactory


@pytest.fixture
def core_services() -> Sequence[NamedFactory]:
    """The services of ``core``: none. Define a fixture of this name yourself to have some.
    A module's, a class's or a conftest's own counts for the tests in it.

    Example::

        @pytest.fixture
        def core_services():
            return [with_name("deployments", Deployments)]
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    return []


@pytest.fixture
def core(core_services: Sequence[NamedFactory]) -> Iterator[Core]:
    """A Core of the test's own: started, and shut down after the test, whatever fails.
    It has the services that the fixture ``core_services`` gives: ``service_for(core, name, Type)``
    finds them. Without any, it is a bus: ``core.register_action(seen.append)``, then
    ``core.action(message)``. What cannot be started or shut down is an error of the test.
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from core_infra.framework._core import Core  # noqa: PLC0415 - who uses it pays for it

    with Core(*core_services) as core:
        yield core
