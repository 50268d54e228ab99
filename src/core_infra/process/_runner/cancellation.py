"""Cancelling a run from elsewhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Cancellation:
    """Stops the runs that it is passed to, from any thread or signal handler.

    ::

        stop = Cancellation()
        threading.Timer(60, stop.cancel).start()
        result = runner.run_all(specs, cancel=stop)  # result.interrupted, if that came first
    """

    # There is no lock: a signal handler may have interrupted its owner.

    def __init__(self) -> None:
        self._cancelled = False
        self._waiting: dict[object, Callable[[], None]] = {}

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop all runs that have this, and each that starts later; may be called twice.

        It returns at once; a run returns its result when all that it started has ended.
        """
        self._cancelled = True
        for key in [*self._waiting]:
            self._call(key)

    @contextlib.contextmanager
    def calls(self, callback: Callable[[], None]) -> Iterator[None]:
        """Within this context, :meth:`cancel` calls *callback*, once, also if called before it."""
        key = object()
        self._waiting[key] = callback
        try:
            if self._cancelled:
                self._call(key)
            yield
        finally:
            self._waiting.pop(key, None)

    def _call(self, key: object) -> None:
        callback = self._waiting.pop(key, None)
        if callback is not None:
            callback()
