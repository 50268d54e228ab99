"""The memory of which machines there are: one file, correct under many processes.

Whoever changes the file holds a lock that the kernel drops with the process, reads it, and
replaces it at one stroke. So a process may be killed anywhere: the file is the old one or the new.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pydantic import ValidationError

from core_infra.errors import (
    AlreadyExistsError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from core_infra.medium._local import LocalMedium
from core_infra.vm._manager.record import Container, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE = "containers.json"
FORMAT = 1
VARIABLE = "CORE_INFRA_STATE_DIR"
_PRIVATE = 0o600


def state_directory() -> Path:
    """Where machines are remembered: ``$CORE_INFRA_STATE_DIR``, else ``.core`` in the home."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).absolute() if chosen else Path.home() / ".core"


def _warn(line: str) -> None:
    warnings.warn(line, RuntimeWarning, stacklevel=2)


class State:
    """The machines of a user, on the real disk: processes share it by the kernel's locks.

    Args:
        directory: where the file is; made at the first change. By default
            :func:`state_directory`.
        tell: is given a line when the file was damaged and had to be set aside; by default that is
            a warning.
    """

    def __init__(
        self, directory: Path | None = None, *, tell: Callable[[str], None] = _warn
    ) -> None:
        self.directory = (directory or state_directory()).absolute()
        self._medium = LocalMedium(self.directory)
        self._tell = tell

    @property
    def path(self) -> Path:
        """The file."""
        return self.directory / FILE

    def load(self) -> dict[str, Container]:
        """All machines by their ids, as the file has them now.

        Raises:
            InvalidError: a later version of core-infra has written it in a way of its own.
            AccessDeniedError: it may not be read.
        """
        with contextlib.suppress(_DamagedError):
            return self._read()
        with self.changing() as containers:  # sets it aside
            return dict(containers)

    def save(self, containers: dict[str, Container]) -> None:
        """Remember these machines, and no others."""
        with self.changing() as known:
            known.clear()
            known.update(containers)

    def all(self) -> list[Container]:
        """All machines, the last started first."""
        return sorted(self.load().values(), key=lambda one: one.started_at, reverse=True)

    def get(self, id_: str) -> Container:
        """A machine, as it is remembered now; what comes later does not change it.

        Raises:
            NotFoundError: there is none with this id.
        """
        try:
            return self.load()[id_]
        except KeyError:
            raise _unknown(id_) from None

    def add(self, container: Container) -> None:
        """Remember one more machine.

        Raises:
            AlreadyExistsError: another one has its id, or its name.
        """
        with self.changing() as containers:
            for other in containers.values():
                if container.id == other.id or container.name == other.name:
                    raise AlreadyExistsError(
                        f"there is a machine {other.name} already",
                        why=f"it is {other.status}, with the id {other.id}",
                        todo="Choose another name, or "
                        + (
                            ""
                            if other.status is Status.RUNNING
                            else f"start that one: core-infra vm start {other.name}; or "
                        )
                        + f"remove it: core-infra vm rm {other.name}",
                    )
            containers[container.id] = container

    def update(self, id_: str, **changes: Any) -> Container:
        """Change some of what is remembered of a machine; the new record.

        Args:
            id_: the machine's id.
            changes: fields of :class:`Container` and their new values.

        Raises:
            NotFoundError: there is none with this id.
            InvalidError: a field is not known, or cannot have this value.
        """
        with self.changing() as containers:
            try:
                old = containers[id_]
            except KeyError:
                raise _unknown(id_) from None
            if unknown := sorted(changes.keys() - Container.model_fields.keys()):
                raise InvalidError(f"a machine has no {', '.join(unknown)} to remember")
            try:
                new = Container.model_validate({**old.model_dump(), **changes})
            except ValidationError as error:
                raise InvalidError(f"machine {id_} cannot be changed", why=_short(error)) from error
            containers[id_] = new
        return new

    def remove(self, id_: str) -> Container:
        """Forget a machine; what was remembered of it.

        Raises:
            NotFoundError: there is none with this id.
        """
        with self.changing() as containers:
            try:
                return containers.pop(id_)
            except KeyError:
                raise _unknown(id_) from None

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Container]]:
        """The machines, to be changed by nobody else; written if the block changed them.

        An exception in the block leaves them as they were.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.directory / f"{FILE}.lock")
            lock.acquire()
        except OSError as error:
            raise UnavailableError(
                f"cannot remember machines in {self.directory}",
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
            raise _DamagedError({}, "it is no list of machines") from error
        if version > FORMAT:
            raise InvalidError(
                f"cannot read {self.path}",
                why=f"it has the form {version}, this version of core-infra knows {FORMAT}",
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
        # Now, and not at the block's end: if that fails, the next one need not set it aside again.
        self._write(error.readable)
        left = len(error.readable)
        self._tell(
            f"{self.path} was damaged ({error.why}); it is kept as {aside}, and "
            f"{left} {'machine' if left == 1 else 'machines'} of it could be read"
        )


class _DamagedError(InvalidError):
    """The file is not what was written; carries what of it can be read."""

    def __init__(self, readable: dict[str, Container], why: str) -> None:
        super().__init__("the list of machines is damaged", why=why)
        self.readable = readable


def _unknown(id_: str) -> NotFoundError:
    return NotFoundError(f"there is no machine {id_}")


def _short(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()
    )
