"""A machine that was prepared once, and the code that prepared it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._snapshots.fingerprints import digest_of_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._machine import Machine


class PreparedMachine:
    """A machine that was prepared once, to be cloned; made by :meth:`Launcher.prepare`."""

    def __init__(self, clone: Callable[[str | None], Machine], close: Callable[[], None]) -> None:
        self._clone = clone
        self._close = close

    def clone(self, name: str | None = None) -> Machine:
        """A machine of its own that begins where the preparation ended.

        Args:
            name: its name within the launcher; None: ``vm1``, ``vm2``, ….
        """
        return self._clone(name)

    def close(self) -> None:
        """End it; its clones live on."""
        self._close()


class PreparationCode:
    """The digests of the functions that prepare machines.

    Args:
        progress: called with a line if the code of one cannot be read.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._former: dict[str, str] = {}

    def digest(self, prepare: Callable[[Machine], object], cache: str) -> str | None:
        """The digest of the code that prepares a machine; None if it cannot be read."""
        found = digest_of_code(prepare)
        if found is None:
            self._progress(
                f"the code of {prepare!r} cannot be read: what it prepares is kept by "
                f"cache={cache!r} alone, and must get another word when it is edited"
            )
            return None
        return self._former.get(found, found)

    def has_run(self, prepare: Callable[[Machine], object], digest: str) -> None:
        """Let *digest* stand for its code, though it changed its own data, such as a list."""
        if (changed := digest_of_code(prepare)) is not None:
            self._former[changed] = digest
