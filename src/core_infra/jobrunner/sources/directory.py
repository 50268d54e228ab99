"""Signals from files that somebody drops into a folder: no account, no network."""

from __future__ import annotations

import json
import logging
import posixpath
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.jobrunner.journal.names import safe_name
from core_infra.jobrunner.signal import PipelineSignal, stamp
from core_infra.jobrunner.work import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner.signal import ActionResult
    from core_infra.medium.medium import Medium

_LOG = logging.getLogger(__name__)
_RESULTS = "results"


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
        """Read all files; one that cannot be read is logged, and the others are.

        Raises:
            PathNotFoundError: the directory is not there.
        """
        for name in self._medium.list(self._path):
            path = posixpath.join(self._path, name)
            if not name.endswith(".json") or not self._medium.is_file(path):
                continue
            try:
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
        text = self._medium.read_text(path)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidError(f"cannot read {path!r} as JSON", why=str(error)) from error
        # All of a file or nothing of it: half of a list may be misleading.
        signals = found if isinstance(found, list) else [found]
        return [
            PipelineSignal.from_dict(fields, where=f"signal {number} of {path!r}")
            for number, fields in enumerate(signals, 1)
        ]
