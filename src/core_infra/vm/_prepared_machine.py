"""A machine that was prepared once, for all that are cloned from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._machine import Machine
    from core_infra.vm._snapshots.clone_source import Template
    from core_infra.vm._snapshots.cloner import Cloner


class Prepared:
    """A machine that was prepared once, to be cloned; made by :meth:`Launcher.prepare`."""

    def __init__(
        self, cloner: Cloner, template: Template, start: Callable[[str | None], Machine]
    ) -> None:
        self._cloner = cloner
        self._template = template
        self._start = start

    def clone(self, name: str | None = None) -> Machine:
        """A machine of its own that begins where the preparation ended.

        Args:
            name: its name within the launcher; None numbers them.
        """
        return self._start(name)

    def close(self) -> None:
        """End it; its clones live on."""
        self._cloner.forget(self._template)
