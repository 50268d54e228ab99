"""A network with two machines that the tests of a module share; each test heals it."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from core_infra.vm import Launcher, Machine, Network


class Pair(NamedTuple):
    """Two machines, a and b, on a network."""

    net: Network
    a: Machine
    b: Machine


@pytest.fixture(scope="module")
def _pair(launcher: Launcher) -> Iterator[Pair]:
    with (
        launcher.network() as net,
        launcher.clone(name="a", networks=[net]) as a,
        launcher.clone(name="b", networks=[net]) as b,
    ):
        yield Pair(net, a, b)
        for machine in (a, b):
            launcher.discard(machine)


@pytest.fixture
def pair(_pair: Pair) -> Iterator[Pair]:
    yield _pair
    _pair.net.heal()


def reaches(source: Machine, target: str, count: int = 1) -> bool:
    """Whether a ping is answered."""
    return source.exec(f"ping -c {count} -W 1 {target} >/dev/null").exit_code == 0
