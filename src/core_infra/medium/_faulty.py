"""A medium whose operations fail when they are told to."""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING, BinaryIO

from core_infra.errors import InvalidError
from core_infra.medium._errors import path_error
from core_infra.medium._medium import FileInfo, Medium
from core_infra.medium._writer import AtomicWriter

if TYPE_CHECKING:
    import builtins
    from random import Random

    from _typeshed import ReadableBuffer, WriteableBuffer

    from core_infra.medium._paths import StrPath

_SHORT, _CRASH = "short", "crash"
_CODES = {
    "ENOSPC": errno.ENOSPC,
    "EIO": errno.EIO,
    "EACCES": errno.EACCES,
    _SHORT: errno.ENOSPC,
    _CRASH: errno.EIO,
}
_READING = {"read", "stat", "list"}


class FaultyMedium(Medium):
    """Another medium, some steps of which fail.

    A step is an operation, or one read, one write or the closing of a file that it opened. Steps
    are counted from 1. Each failure says how to have it again: ``FaultyMedium(medium,
    plan="7:EIO")`` fails at step 7, whatever the seed was. The faults:

    - ``ENOSPC`` (changes only), ``EIO``, ``EACCES``: the step does nothing and raises.
    - ``short``: half of a write gets there, and the next step is ENOSPC; elsewhere like ENOSPC.
    - ``crash``: the step and all after it raise, and nothing more gets there.

    Args:
        medium: the medium that does what does not fail.
        plan: which steps fail and how, as in ``"3:ENOSPC,9:crash"``.
        seed: instead of a plan, fail at random, the same for the same seed.
        rate: how often, for a seed: 0.1 is one step in ten.

    Attributes:
        steps: how many steps were taken.

    Raises:
        InvalidError: the plan is of another form, or there is a seed as well.
    """

    def __init__(
        self, medium: Medium, *, plan: str = "", seed: int | None = None, rate: float = 0.1
    ) -> None:
        if plan and seed is not None:
            raise InvalidError(
                f"cannot fail by the plan {plan!r} and by the seed {seed}",
                todo="Give one of them: the plan repeats what a seed has found.",
            )
        self.steps = 0
        self._medium = medium
        self._plan = _parse(plan)
        self._crashed_at = 0
        self._random: Random | None = None
        if seed is not None:
            import random  # noqa: PLC0415 - plans need none

            self._random = random.Random(seed)  # noqa: S311 - no secret
        self._rate = rate
        self._fired: list[str] = []

    def __repr__(self) -> str:
        return f"FaultyMedium({self._medium!r}, plan={self.replay!r})"

    @property
    def replay(self) -> str:
        """The plan that makes the steps fail that have failed so far."""
        return ",".join(self._fired)

    def read_bytes(self, path: StrPath) -> bytes:
        """Return a file's content."""
        self.step("read", path)
        return self._medium.read_bytes(path)

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file."""
        with self.create(path, mode=mode) as file:
            file.write(data)

    def open(self, path: StrPath) -> BinaryIO:
        """Open a file for reading."""
        self.step("read", path)
        return io.BufferedReader(_FaultyFile(self, path, self._medium.open(path)))

    def create(self, path: StrPath, *, mode: int | None = None) -> BinaryIO:
        """Write a whole file piece by piece."""
        self.step("write", path)
        inner = self._medium.create(path, mode=mode)

        def commit() -> None:
            self.step("finish", path)
            inner.close()

        return AtomicWriter(_FaultyFile(self, path, inner), commit, lambda: _abandon(inner))

    def append(self, path: StrPath) -> BinaryIO:
        """Open a file for writing at its end."""
        self.step("append to", path)
        return io.BufferedWriter(_FaultyFile(self, path, self._medium.append(path)))

    def stat(self, path: StrPath) -> FileInfo:
        """Describe what is at a path."""
        self.step("stat", path)
        return self._medium.stat(path)

    def list(self, path: StrPath) -> builtins.list[str]:
        """Return the names in a directory."""
        self.step("list", path)
        return self._medium.list(path)

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it is there."""
        self.step("make the directory", path)
        self._medium.ensure_dir(path)

    def identity(self, path: StrPath) -> object:
        """Return what the other medium returns; no step."""
        return self._medium.identity(path)

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Move a file or directory in one step."""
        self.step("rename", old)
        self._medium.rename(old, new)

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory."""
        self.step("delete", path)
        self._medium.delete(path)

    def delete_all(self, path: StrPath) -> None:
        """Delete whatever is at a path."""
        self.step("delete", path)
        self._medium.delete_all(path)

    def step(self, action: str, path: StrPath, size: int = 0) -> int:
        """Count one step, and raise if it is to fail.

        Args:
            action: what is tried, as in "cannot *action* 'the/path'".
            path: the path it is tried on.
            size: how many bytes are to be written.

        Returns:
            How many of them shall be.

        Raises:
            CoreInfraError: the fault; its text says how to have it again.
        """
        self.steps += 1
        fault = _CRASH if self._crashed_at else self._fault(action)
        if not fault:
            return size
        if not self._crashed_at:
            self._fired.append(f"{self.steps}:{fault}")
        if fault == _SHORT and size > 1:
            self._plan[self.steps + 1] = "ENOSPC"  # as the system does: some, then the reason
            return size // 2
        error = path_error(_CODES[fault], action, path)
        if fault == _CRASH:
            self._crashed_at = self._crashed_at or self.steps
            error.why = f"the medium crashed at step {self._crashed_at}"
        error.todo = f"To have this again: FaultyMedium(medium, plan={self.replay!r})"
        raise error

    def _fault(self, action: str) -> str:
        planned = self._plan.get(self.steps, "")
        if planned or self._random is None or self._random.random() >= self._rate:
            return planned
        kinds = ["EIO", "EACCES"] if action in _READING else ["ENOSPC", "EIO", "EACCES", _SHORT]
        return self._random.choice(kinds)


class _FaultyFile(io.RawIOBase):
    """An open file, each reading and writing of which is a step."""

    def __init__(self, medium: FaultyMedium, path: StrPath, inner: BinaryIO) -> None:
        self._medium = medium
        self._path = path
        self._inner = inner

    def readable(self) -> bool:
        return self._inner.readable()

    def writable(self) -> bool:
        return self._inner.writable()

    def seekable(self) -> bool:
        return self._inner.seekable()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._medium.step("read", self._path)
        with memoryview(buffer) as view:
            data = self._inner.read(view.nbytes)
            view[: len(data)] = data
            return len(data)

    def write(self, data: ReadableBuffer, /) -> int:
        with memoryview(data) as view:
            size = self._medium.step("write to", self._path, view.nbytes)
            with view[:size] as taken:
                self._inner.write(taken)
            self._inner.flush()
            return size

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def _abandon(writer: BinaryIO) -> None:
    # The port's way to say that a writer is not to commit.
    writer.__exit__(InterruptedError, InterruptedError(), None)


def _parse(plan: str) -> dict[int, str]:
    faults: dict[int, str] = {}
    for part in filter(None, plan.split(",")):
        number, _, fault = part.strip().partition(":")
        step = int(number) if number.isdecimal() else 0
        if step < 1 or fault not in _CODES:
            why = f"{part!r} is not of the form STEP:FAULT"
        elif step in faults:
            why = f"step {step} can fail in one way only"
        else:
            faults[step] = fault
            continue
        raise InvalidError(
            f"cannot use the plan {plan!r}",
            why=why,
            todo=f"Steps count from 1; a fault is one of {', '.join(_CODES)}.",
            plan=plan,
        )
    return faults
