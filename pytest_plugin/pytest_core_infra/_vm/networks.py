"""Makes networks for tests: the value of the fixtures ``core_network…``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._networks import Network


class NetworkFactory:
    """Makes networks for one test, or for the tests of a class, a module or the session.

    The value of the fixture ``core_network`` and of those for other scopes.

    Args:
        make: makes a network.
    """

    def __init__(self, make: Callable[..., Network]) -> None:
        self._make = make

    def __call__(
        self,
        subnet: str | None = None,
        *,
        name: str | None = None,
        outside: bool = False,
        seed: int = 0,
    ) -> Network:
        """Make a network; machines join it by ``networks=[…]`` when they start.

        Args:
            subnet: its IPv4 addresses, such as ``10.9.0.0/24``; default: a free subnet.
            name: its name in reports.
            outside: whether machines on it can reach the world outside.
            seed: decides which frames are hit by faults.

        Raises:
            InvalidError: the subnet is not possible.
        """
        return self._make(subnet, name=name, outside=outside, seed=seed)
