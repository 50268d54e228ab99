"""A launcher for the whole run, and machines that several tests share."""

from collections.abc import Iterator

import pytest

from core_infra.vm import Launcher, Machine
from core_infra.vm._snapshots import source_builder
from support import NoForkServer


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    with Launcher(progress=print) as launcher:  # a failing test shows why it was slow or cold
        yield launcher


@pytest.fixture(scope="module")
def machine(launcher: Launcher) -> Iterator[Machine]:
    """A machine for the tests of one module, none of which harms it."""
    machine = launcher.clone()
    yield machine
    launcher.discard(machine)


@pytest.fixture
def own_machine(launcher: Launcher) -> Iterator[Machine]:
    """A machine that the test may break."""
    machine = launcher.clone()
    yield machine
    launcher.discard(machine)


@pytest.fixture(scope="module", params=["forked", "loaded"])
def cloning(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    """A launcher whose clones are made in each of the two ways."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "loaded":
            patch.setattr(source_builder, "ForkServer", NoForkServer)
        with Launcher(accelerator="tcg", memory=128) as launcher:
            yield launcher
