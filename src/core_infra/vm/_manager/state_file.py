"""The file with the records of all machines, which many processes may change at the same time.

A process that changes the file holds a lock, which the kernel releases with the process, reads the
file, and replaces it in one step. So it may be killed anywhere: the file is the old or the new one.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pydantic import ValidationError

from core_infra._wording import count
from core_infra.errors import (
    AlreadyExistsError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from core_infra.medium._local import LocalMedium
from core_infra.vm._manager.record import Container, ContainerStatus
from core_infra.vm._state_directory import VARIABLE, state_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE = "containers.json"
FORMAT = 1
_PRIVATE = 0o600


def _warn(line: str) -> None:
    warnings.warn(line, RuntimeWarning, stacklevel=2)


class State:
    """The records of a user's machines, in a file that processes share.

    Args:
        directory: the directory of the file; created at the first change. By default
            :func:`state_directory`.
        progress: called with a line if the file was damaged and is set aside; the default is a
            warning.
    """

    def __init__(
        self, directory: Path | None = None, *, progress: Callable[[str], None] = _warn
    ) -> None:
        self.directory = (directory or state_directory()).absolute()
        self._medium = LocalMedium(self.directory)
        self._progress = progress

    @property
    def path(self) -> Path:
        """The file."""
        return self.directory / FILE

    def load(self) -> dict[str, Container]:
        """All machines by their ids, as they are in the file now.

        Raises:
            InvalidError: a later version of core-infra has written it in an unknown format.
            AccessDeniedError: it cannot be read.
        """
        with contextlib.suppress(_DamagedError):
            return self._read()
        with self.changing() as containers:  # sets it aside
            return dict(containers)

    def save(self, containers: dict[str, Container]) -> None:
        """Replace all records by these."""
        with self.changing() as known:
            known.clear()
            known.update(containers)

    def all(self) -> list[Container]:
        """All machines, the last started one first."""
        return sorted(self.load().values(), key=lambda one: one.started_at, reverse=True)

    def get(self, id_: str) -> Container:
        """The current record of a machine; later changes do not affect it.

        Raises:
            NotFoundError: no machine has this id.
        """
        try:
            return self.load()[id_]
        except KeyError:
            raise _unknown(id_) from None

    def add(self, container: Container) -> None:
        """Add a machine.

        Raises:
            AlreadyExistsError: another machine has its id or its name, or an id that begins with
                its name.
        """
        with self.changing() as containers:
            for other in containers.values():
                if other.id.startswith(container.name):
                    raise AlreadyExistsError(
                        f"a machine cannot be named {container.name!r} now",
                        why=f"that is also the beginning of the id of {other.name}, {other.id}",
                        todo="Choose another name.",
                    )
                if container.id == other.id or container.name == other.name:
                    raise AlreadyExistsError(
                        f"there is a machine {other.name} already",
                        why=f"it is {other.status}, with the id {other.id}",
                        todo="Choose another name, or "
                        + (
                            ""
                            if other.status is ContainerStatus.RUNNING
                            else f"start that one: core-infra vm start {other.name}; or "
                        )
                        + f"remove it: core-infra vm rm {other.name}",
                    )
            containers[container.id] = container

    def update(self, id_: str, **changes: Any) -> Container:
        """Change fields of a machine's record and return the new record.

        Args:
            id_: the machine's id.
            changes: fields of :class:`Container` and their new values.

        Raises:
            NotFoundError: no machine has this id.
            InvalidError: a field does not exist, or cannot have this value.
        """
        with self.changing() as containers:
            try:
                old = containers[id_]
            except KeyError:
                raise _unknown(id_) from None
            if unknown := sorted(changes.keys() - Container.model_fields.keys()):
                raise InvalidError(f"a machine's record has no field {', '.join(unknown)}")
            try:
                new = Container.model_validate({**old.model_dump(), **changes})
            except ValidationError as error:
                raise InvalidError(f"machine {id_} cannot be changed", why=_short(error)) from error
            containers[id_] = new
        return new

    def remove(self, id_: str) -> Container:
        """Remove a machine and return its last record.

        Raises:
            NotFoundError: no machine has this id.
        """
        with self.changing() as containers:
            try:
                return containers.pop(id_)
            except KeyError:
                raise _unknown(id_) from None

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Container]]:
        """The records, locked; they are written to the file if the block changed them.

        After an exception in the block, the file is unchanged.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.directory / f"{FILE}.lock")
            lock.acquire()
        except OSError as error:
            raise UnavailableError(
                f"cannot write to the state directory {self.directory}",
                why=str(error),
                todo=f"Choose another directory with {VARIABLE}.",
            ) from error
        try:
            try:
                containers = self._read()
            except _DamagedError as error:
                containers = error.readable
                self._set_aside(error)
            before = dict(containers)
            yield containers
            if containers != before:
                self._write(containers)
        finally:
            lock.release()

    def _read(self) -> dict[str, Container]:
        if not self._medium.exists(FILE):
            return {}
        data = self._medium.read_bytes(FILE)
        try:
            found = json.loads(data)
            entries = list(found["containers"].items())
            version = int(found["version"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _DamagedError({}, "it is not a list of machines") from error
        if version > FORMAT:
            raise InvalidError(
                f"cannot read {self.path}",
                why=f"it has format {version}; this version of core-infra reads format {FORMAT}",
                todo="Use the version of core-infra that wrote it, or another state directory.",
            )
        readable: dict[str, Container] = {}
        problems = []
        for id_, entry in entries:
            try:
                container = Container.model_validate(entry)
            except ValidationError as error:
                problems.append(f"{id_}: {_short(error)}")
            else:
                readable[container.id] = container
        if problems:
            raise _DamagedError(readable, "; ".join(problems))
        return readable

    def _write(self, containers: dict[str, Container]) -> None:
        records = {id_: one.model_dump(mode="json") for id_, one in containers.items()}
        text = json.dumps({"version": FORMAT, "containers": records}, indent=2)
        self._medium.write_text(FILE, f"{text}\n", mode=_PRIVATE)

    def _set_aside(self, error: _DamagedError) -> None:
        number = 1
        while self._medium.exists(f"{FILE}.damaged-{number}"):
            number += 1
        aside = f"{FILE}.damaged-{number}"
        self._medium.write_bytes(aside, self._medium.read_bytes(FILE), mode=_PRIVATE)
        # Now, not at the block's end: if the block fails, the file must not be set aside again.
        self._write(error.readable)
        left = len(error.readable)
        self._progress(
            f"{self.path} was damaged ({error.why}); it is kept as {aside}, and "
            f"{count(left, 'machine')} of it could be read"
        )


class _DamagedError(InvalidError):
    """The file is damaged; has the records that can still be read."""

    def __init__(self, readable: dict[str, Container], why: str) -> None:
        super().__init__("the list of machines is damaged", why=why)
        self.readable = readable


def _unknown(id_: str) -> NotFoundError:
    return NotFoundError(f"there is no machine {id_}")


def _short(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()
    )
