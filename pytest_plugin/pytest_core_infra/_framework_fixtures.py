"""The fixtures ``core`` and ``core_services``: services and the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.framework._core import Core, NamedFactory


@pytest.fixture
def core_services() -> Sequence[NamedFactory]:
    """The services of ``core``; none by default. Override this fixture to define some, in a module,
    a class or a conftest.

    Example::

        @pytest.fixture
        def core_services():
            return [with_name("deployments", Deployments)]
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return []


@pytest.fixture
def core(core_services: Sequence[NamedFactory]) -> Iterator[Core]:
    """A Core for this test: started before it, and shut down after it, also if the test fails.
    It has the services of the fixture ``core_services``: ``service_for(core, name, Type)`` finds
    them. Without services it is a bus: ``core.register_action(seen.append)``, then
    ``core.action(message)``. An error of a start or shutdown is an error of the test.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    from core_infra.framework._core import Core  # noqa: PLC0415 - imported only if it is used

    with Core(*core_services) as core:
        yield core
