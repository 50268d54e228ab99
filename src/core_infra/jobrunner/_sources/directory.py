"""Signals from files that somebody drops into a folder: no account, no network."""

from __future__ import annotations

import json
import logging
import posixpath
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.jobrunner._handler_calls import told
from core_infra.jobrunner._journal.paths import safe_name
from core_infra.jobrunner._signal import PipelineSignal, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner._signal import ActionResult
    from core_infra.medium._medium import Medium

_LOG = logging.getLogger(__name__)
_RESULTS = "results"
_LARGEST = 1 << 20
"""How many bytes a file may have: it is a signal, or a few hundred."""


class DirectorySource:
    """Each ``*.json`` file of a directory is a signal, or a list of them.

    A file says how things are now: it stays, and is written again when they change. It should be
    put there by a rename, so that nobody reads half of it. What came of an action is written to
    ``results/`` beside the files.

    Args:
        medium: where the directory is.
        path: of the directory.
        name: of the source.
    """

    def __init__(self, medium: Medium, path: str, *, name: str = "directory") -> None:
        self._medium = medium
        self._path = path
        self.name = name

    def poll(self) -> Iterator[PipelineSignal]:
        """Read all files; one that cannot be, or has more than 1 MiB, is logged and left out.

        Raises:
            PathNotFoundError: the directory is not there.
        """
        for name in self._medium.list(self._path):
            path = posixpath.join(self._path, name)
            try:
                if name.endswith(".json") and self._medium.is_file(path):
                    yield from self._read(path)
            except CoreInfraError as error:
                _LOG.error("source %s: %s", self.name, told(error))

    def report(self, result: ActionResult) -> None:
        """Write what came of an action; a later action on the same item replaces it."""
        item = f"{result.repo_owner}/{result.repo_name}/{result.epic}/{result.child}/{result.pr}"
        name = safe_name(f"{item}/{result.action}", "item")
        told_ = {**vars(result), "ts": stamp(result.ts)}
        path = posixpath.join(self._path, _RESULTS, f"{name}.json")
        self._medium.write_text(path, json.dumps(told_, indent=2) + "\n")

    def _read(self, path: str) -> list[PipelineSignal]:
        data = b""
        if (size := self._medium.stat(path).size) <= _LARGEST:
            with self._medium.open(path) as file:  # what grows meanwhile is cut off
                data = file.read(_LARGEST + 1)
        if max(size, len(data)) > _LARGEST:
            raise InvalidError(
                f"cannot read {path!r}",
                why=f"it has more than {_LARGEST >> 20} MiB",
                todo="Write its signals to several files.",
            )
        try:
            found = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise InvalidError(f"cannot read {path!r} as JSON", why=str(error)) from error
        # All of a file or nothing of it: half of a list may be misleading.
        signals = found if isinstance(found, list) else [found]
        return [
            PipelineSignal.from_dict(fields, where=f"signal {number} of {path!r}")
            for number, fields in enumerate(signals, 1)
        ]
