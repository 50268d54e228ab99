"""Faults of a network: what they do, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._fault import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core_infra.vm._fault import FaultOwner
    from core_infra.vm._network.frame import Frame
    from core_infra.vm._network.link_settings import LinkSettings


class NetworkFault(Fault):
    """A fault of a network, from its start until :meth:`heal`, or the end of its ``with`` block.

    Attributes:
        cuts: whether nothing passes from one machine to another.
        links: what happens to the frames between pairs of machines.
        drops: which frames are dropped.
        error: the first error that *drops* has raised.
    """

    def __init__(
        self,
        description: str,
        owner: FaultOwner,
        *,
        cuts: Callable[[str, str], bool] = lambda _source, _target: False,
        links: Mapping[tuple[str, str], LinkSettings] | None = None,
        drops: Callable[[Frame], object] | None = None,
    ) -> None:
        super().__init__(description, owner)
        self.cuts = cuts
        self.links = links or {}
        self.drops = drops
        self.error: BaseException | None = None

    def heal(self) -> None:
        """End it; a second call does nothing.

        Raises:
            Exception: the first error that the function of :meth:`Network.drop` has raised.
        """
        super().heal()
        self.raise_error()

    def raise_error(self) -> None:
        """Raise the error, once."""
        error, self.error = self.error, None
        if error is not None:
            raise error
