"""Freshness: a spec is up to date if its inputs, command and outputs are as when it last passed."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import posixpath
import stat
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CoreInfraError
from core_infra.medium._errors import PathNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core_infra.medium._medium import Medium
    from core_infra.process._runner.spec import RunSpec

_BOOKKEEPING = ("/.git/", "/.core/cache/", "/__pycache__/")

_log = logging.getLogger(__name__)


class Freshness:
    """Stores fingerprints of the inputs and outputs of specs.

    There is a small file for each spec, written atomically, and only once the spec has passed. A
    file that is damaged or cannot be read counts as missing, so the spec is run.

    Args:
        medium: where the files are.
        directory: the directory for them.
        force: nothing is up to date, but what passes is stored.
    """

    def __init__(
        self, medium: Medium, directory: str = ".core/cache/tasks", *, force: bool = False
    ) -> None:
        self._medium = medium
        self._directory = directory
        self._force = force

    def begin(self, spec: RunSpec) -> Fingerprint:
        """Return the fingerprint of a spec; deletes the stored one if they differ."""
        path = posixpath.join(self._directory, hashlib.sha256(spec.name.encode()).hexdigest())
        try:
            # Relative to the stored files, not to the working directory: so it does not matter.
            key = _key(spec, os.path.relpath(spec.dir or ".", self._directory))
        except OSError as error:
            _log.warning("%s is not up to date: %s", spec.name, error)
            key = ""
        fresh = bool(key) and not self._force and self._known(spec, path) == key
        if not fresh:  # else a failure, or a crash of the host, might be followed by "up to date"
            try:
                self._medium.delete(path)
            except PathNotFoundError:
                pass
            except CoreInfraError as error:
                _log.warning("cannot forget when %s was up to date: %s", spec.name, error)
        return Fingerprint(path, key, fresh)

    def passed(self, spec: RunSpec, fingerprint: Fingerprint) -> None:
        """Remember that a spec has passed."""
        if not fingerprint.key:
            return
        try:
            outputs = _outputs(spec)
            if outputs is not None:
                text = json.dumps({"name": spec.name, "key": fingerprint.key, "outputs": outputs})
                self._medium.write_text(fingerprint.path, text + "\n")
        except (CoreInfraError, OSError) as error:
            _log.warning("%s will not be up to date: %s", spec.name, error)

    def _known(self, spec: RunSpec, path: str) -> str | None:
        """The key with which it last passed, if its outputs are unchanged since."""
        with contextlib.suppress(
            CoreInfraError, OSError, ValueError, TypeError, KeyError, RecursionError
        ):
            found = json.loads(self._medium.read_text(path))
            if found["outputs"] == _outputs(spec):
                return str(found["key"])
        return None


def files_of(spec: RunSpec, *, outputs: bool = False) -> list[str]:
    """The files that the inputs, or the outputs, of a spec match now.

    Its outputs are not inputs, even if a pattern of these matches them.
    """
    made = [path for pattern in spec.outputs for path in _files(spec, pattern)]
    if outputs:
        return made
    found = {os.path.normpath(path) for pattern in spec.inputs for path in _files(spec, pattern)}
    return sorted(found.difference(map(os.path.normpath, made)))


class Fingerprint(NamedTuple):
    """What a spec depends on.

    Attributes:
        path: the file that stores it.
        key: a digest; empty if it cannot be computed.
        fresh: the spec has passed with this key, and its outputs are unchanged.
    """

    path: str
    key: str
    fresh: bool


def _key(spec: RunSpec, directory: str) -> str:
    command = [spec.argv, directory, spec.env, spec.inputs, spec.outputs]
    files = _digests(spec, files_of(spec))
    return hashlib.sha256(json.dumps([command, files], sort_keys=True).encode()).hexdigest()


def _outputs(spec: RunSpec) -> dict[str, str] | None:
    """A digest of each output; None if one is missing."""
    found: dict[str, str] = {}
    for pattern in spec.outputs:
        files = [*_files(spec, pattern)]
        if not files:
            return None
        found |= _digests(spec, files)
    return found


def _digests(spec: RunSpec, files: Iterable[str]) -> dict[str, str]:
    return {os.path.relpath(path, spec.dir or "."): _digest(path) for path in files}


def _files(spec: RunSpec, pattern: str) -> Iterator[str]:
    """The files that match a pattern; of directories, all that is in them."""
    base = spec.dir or "."
    names: Sequence[str] = glob.glob(  # noqa: PTH207 - Path.glob has neither a root nor include_hidden
        pattern, root_dir=base, recursive=True, include_hidden=True
    )
    for name in names:
        path = os.path.join(base, name)  # noqa: PTH118 - strings, as the glob has them
        inside: Iterable[str] = (path,)
        if os.path.isdir(path):  # noqa: PTH112
            # A pattern with ** matches the contents by itself.
            walked = () if "**" in pattern else os.walk(path)
            inside = (os.path.join(at, file) for at, _, files in walked for file in files)  # noqa: PTH118
        yield from (one for one in inside if not _is_bookkeeping(one, pattern))


def _is_bookkeeping(path: str, pattern: str) -> bool:
    """Whether it belongs to git, Python or us: then a pattern must name its directory."""
    return any(part in f"/{path}" and part not in f"/{pattern}/" for part in _BOOKKEEPING)


def _digest(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode) and not os.path.exists(path):  # noqa: PTH110
        return "link to " + os.readlink(path)  # noqa: PTH115
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
        return "special"  # reading it might block forever
    with open(path, "rb") as file:  # noqa: PTH123
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest + ("x" if mode & stat.S_IXUSR else "")
