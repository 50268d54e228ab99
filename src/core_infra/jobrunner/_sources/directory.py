"""Signals from JSON files in a directory: no account, no network."""

from __future__ import annotations

import json
import logging
import posixpath
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.jobrunner._journal.paths import safe_name
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._signal import PipelineSignal, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner._signal import ActionResult
    from core_infra.medium._medium import Medium

_LOG = logging.getLogger(__name__)
_RESULTS = "results"
_SIZE_MAX = 1 << 20
"""The size of a file in bytes: enough for a few hundred signals."""


class DirectorySource:
    """Each ``*.json`` file of a directory is a signal, or a list of them.

    A file has the current state: it stays, and is replaced when the state changes. Replace it by a
    rename, so that it is never read half-written. The results of actions are written to
    ``results/`` beside the files.

    Args:
        medium: the file system of the directory.
        path: the directory.
        name: the name of the source.
    """

    def __init__(self, medium: Medium, path: str, *, name: str = "directory") -> None:
        self._medium = medium
        self._path = path
        self.name = name

    def poll(self) -> Iterator[PipelineSignal]:
        """Read all files; log and skip those that cannot be read or are larger than 1 MiB.

        Raises:
            PathNotFoundError: the directory does not exist.
        """
        for name in self._medium.list(self._path):
            path = posixpath.join(self._path, name)
            try:
                if name.endswith(".json") and self._medium.is_file(path):
                    yield from self._read(path)
            except CoreInfraError as error:
                _LOG.error("source %s: %s", self.name, describe_error(error))

    def report(self, result: ActionResult) -> None:
        """Write the result of an action; a later action on the same item replaces it."""
        item = f"{result.repo_owner}/{result.repo_name}/{result.epic}/{result.child}/{result.pr}"
        name = safe_name(f"{item}/{result.action}", "item")
        fields = {**vars(result), "ts": stamp(result.ts)}
        path = posixpath.join(self._path, _RESULTS, f"{name}.json")
        self._medium.write_text(path, json.dumps(fields, indent=2) + "\n")

    def _read(self, path: str) -> list[PipelineSignal]:
        data = b""
        if (size := self._medium.stat(path).size) <= _SIZE_MAX:
            with self._medium.open(path) as file:  # not more, if it grows meanwhile
                data = file.read(_SIZE_MAX + 1)
        if max(size, len(data)) > _SIZE_MAX:
            raise InvalidError(
                f"cannot read {path!r}",
                why=f"it has more than {_SIZE_MAX >> 20} MiB",
                todo="Write its signals to several files.",
            )
        try:
            found = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise InvalidError(f"cannot read {path!r} as JSON", why=str(error)) from error
        # All of a file or nothing: half of a list may be misleading.
        signals = found if isinstance(found, list) else [found]
        return [
            PipelineSignal.from_dict(fields, where=f"signal {number} of {path!r}")
            for number, fields in enumerate(signals, 1)
        ]
