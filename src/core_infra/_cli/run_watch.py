"""Waits for changes of files that tasks read, for ``core-infra run --watch``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from core_infra.errors import UnavailableError
from core_infra.process._runner.freshness import files_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from core_infra.process._runner.cancellation import Cancellation
    from core_infra.process._runner.spec import RunSpec

_IGNORED = frozenset({".git", "__pycache__"})
_SETTLE_MS = 200
"""After this time without a change, in milliseconds, all directories are watched."""

Stamps = dict[str, tuple[int, int, int]]
"""For each file, values that change with its contents."""


class Watcher:
    """Watches for changes within a ``with`` block.

    Args:
        file: the task file; its directory is watched.

    Raises:
        UnavailableError: watchfiles is not installed.
    """

    def __init__(self, file: str) -> None:
        try:
            import watchfiles  # noqa: PLC0415, F401 - an extra that only --watch needs
        except ImportError:
            raise UnavailableError(
                "cannot watch files",
                why="watchfiles is not installed",
                todo="pip install 'core-infra[watch]'",
            ) from None
        self._directory = os.path.realpath(os.path.dirname(file) or ".")  # noqa: PTH120
        self._specs: Sequence[RunSpec] = ()
        self._files: set[str] = set()
        self._own: set[str] = set()
        self._stamps: Stamps = {}
        self._cancel: Cancellation | None = None
        self._changed = threading.Event()
        self._ready = threading.Event()
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="core-infra-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def start_run(
        self,
        specs: Sequence[RunSpec],
        files: Collection[str],
        own: Collection[str],
        cancel: Cancellation,
    ) -> None:
        """Start watching a run: a change from now on cancels it.

        Args:
            specs: what is run; empty if it is unknown.
            files: the files that define what is run.
            own: files that we write.
            cancel: cancels the run.
        """
        with self._lock:
            self._specs = specs
            self._files = {os.path.realpath(path) for path in files}
            self._own = {os.path.realpath(path) for path in own}
            self._stamps = _stamps(specs)
            self._cancel = cancel
            self._changed.clear()

    def wait(self) -> None:
        """Wait for a change since :meth:`start_run`."""
        self._changed.wait()

    def _watch(self) -> None:
        import watchfiles  # noqa: PLC0415 - as above

        for changes in watchfiles.watch(
            self._directory,
            watch_filter=None,
            stop_event=self._end,
            rust_timeout=_SETTLE_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            self._ready.set()
            with self._lock:
                if changes and self._is_relevant({path for _, path in changes}):
                    self._changed.set()
                    if self._cancel is not None:
                        self._cancel.cancel()

    def _is_relevant(self, paths: set[str]) -> bool:
        if not self._files.isdisjoint(paths):
            return True
        if any(spec.inputs for spec in self._specs):
            return _stamps(self._specs) != self._stamps
        made = {path for spec in self._specs for path in files_of(spec, outputs=True)}
        others = self._own | {os.path.realpath(path) for path in made}
        left = [path for path in paths if path not in others and not self._is_ignored(path)]
        return len(_ignored_by_git(self._directory, left)) < len(left)

    def _is_ignored(self, path: str) -> bool:
        if os.path.isdir(path):  # noqa: PTH112
            return True  # files in it are reported themselves
        parts = Path(os.path.relpath(path, self._directory)).parts
        return not _IGNORED.isdisjoint(parts) or ".core/cache/" in "/".join(parts)


def _stamps(specs: Sequence[RunSpec]) -> Stamps:
    """The stamps of all inputs that no task makes."""
    made = {path for spec in specs for path in files_of(spec, outputs=True)}
    found: Stamps = {}
    for spec in specs:
        for path in files_of(spec):
            if path not in made:
                with contextlib.suppress(OSError):
                    stat = os.stat(path)  # noqa: PTH116
                    found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def _ignored_by_git(directory: str, paths: Sequence[str]) -> list[str]:
    """The paths that git ignores; none without git or a repository."""
    if not paths:
        return []
    try:
        done = subprocess.run(
            ["git", "-C", directory, "check-ignore", "-z", "--stdin"],
            input=b"".join(os.fsencode(path) + b"\0" for path in paths),
            capture_output=True,
            check=False,
        )
    except OSError:
        return []
    return [os.fsdecode(path) for path in done.stdout.split(b"\0") if path]
