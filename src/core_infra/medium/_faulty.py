"""A medium whose operations fail on request."""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING, BinaryIO

from core_infra.errors import InvalidError
from core_infra.medium._arguments import check_data, check_medium, check_rate
from core_infra.medium._errors import path_error
from core_infra.medium._medium import FileInfo, Medium
from core_infra.medium._writer import AtomicWriter

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable
    from random import Random

    from _typeshed import ReadableBuffer, WriteableBuffer

    from core_infra.medium._errors import StrPath

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
    """Wraps a medium and makes some steps fail.

    A step is an operation, or one read, one write or the close of a file that it opened. Steps are
    counted from 1. Each error states how to reproduce it: ``FaultyMedium(medium, plan="7:EIO")``
    fails at step 7, independently of a seed. The faults:

    - ``ENOSPC`` (changes only), ``EIO``, ``EACCES``: the step does nothing and raises.
    - ``short``: half of a write is written, and the next step fails with ENOSPC; for other steps
      the same as ENOSPC.
    - ``crash``: the step and all later ones raise and change nothing.

    Args:
        medium: performs the steps that do not fail.
        plan: which steps fail and how, as in ``"3:ENOSPC,9:crash"``.
        seed: instead of a plan, fail at random, reproducibly for the same seed.
        rate: the probability of a failure, for a seed: 0.1 is one step in ten.

    Attributes:
        steps: the number of steps so far.

    Raises:
        InvalidError: the plan, the seed or the rate is malformed, or both a plan and a seed are
            given.
    """

    def __init__(
        self, medium: Medium, *, plan: str = "", seed: int | None = None, rate: float = 0.1
    ) -> None:
        check_medium("medium", medium)
        if plan and seed is not None:
            raise InvalidError(
                f"cannot fail by the plan {plan!r} and by the seed {seed}",
                todo="Give one of them: a plan reproduces the failures of a seed.",
            )
        self.steps = 0
        self._medium = medium
        self._plan = _parse(plan)
        self._crashed_at = 0
        self._random: Random | None = None
        if seed is not None:
            import random  # noqa: PLC0415 - not needed for plans

            if not isinstance(seed, int):
                raise InvalidError(f"seed is {seed!r}", why="it must be a whole number")
            check_rate(rate)
            self._random = random.Random(seed)  # noqa: S311 - not for security
        self._rate = rate
        self._fired: list[str] = []

    def __repr__(self) -> str:
        return f"FaultyMedium({self._medium!r}, plan={self.replay!r})"

    @property
    def replay(self) -> str:
        """The plan that reproduces the failures so far."""
        return ",".join(self._fired)

    def read_bytes(self, path: StrPath) -> bytes:
        """Return a file's content."""
        self._step("read", path)
        return self._medium.read_bytes(path)

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file."""
        check_data(data)
        with self.create(path, mode=mode) as file:
            file.write(data)

    def open(self, path: StrPath) -> BinaryIO:
        """Open a file for reading."""
        self._step("read", path)
        return io.BufferedReader(_FaultyFile(self._step, path, self._medium.open(path)))

    def create(self, path: StrPath, *, mode: int | None = None) -> BinaryIO:
        """Write a whole file piece by piece."""
        self._step("write", path)
        inner = self._medium.create(path, mode=mode)

        def commit() -> None:
            self._step("finish", path)
            inner.close()

        return AtomicWriter(_FaultyFile(self._step, path, inner), commit, lambda: _abandon(inner))

    def append(self, path: StrPath) -> BinaryIO:
        """Open a file for appending."""
        self._step("append to", path)
        return io.BufferedWriter(_FaultyFile(self._step, path, self._medium.append(path)))

    def stat(self, path: StrPath) -> FileInfo:
        """Describe the file or directory at a path."""
        self._step("stat", path)
        return self._medium.stat(path)

    def list(self, path: StrPath) -> builtins.list[str]:
        """Return the names in a directory."""
        self._step("list", path)
        return self._medium.list(path)

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it exists."""
        self._step("make the directory", path)
        self._medium.ensure_dir(path)

    def identity(self, path: StrPath) -> object:
        """Return the identity in the wrapped medium; this is not a step."""
        return self._medium.identity(path)

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Move a file or directory atomically."""
        self._step("rename", old)
        self._medium.rename(old, new)

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory."""
        self._step("delete", path)
        self._medium.delete(path)

    def delete_all(self, path: StrPath) -> None:
        """Delete a file or a directory tree."""
        self._step("delete", path)
        self._medium.delete_all(path)

    def _step(self, action: str, path: StrPath, size: int = 0) -> int:
        """Count one step, and raise if it is to fail.

        Args:
            action: the operation, as in "cannot *action* 'the/path'".
            path: its path.
            size: the number of bytes to write.

        Returns:
            The number of bytes that may be written.

        Raises:
            CoreInfraError: the fault; its text states how to reproduce it.
        """
        self.steps += 1
        fault = _CRASH if self._crashed_at else self._fault(action)
        if not fault:
            return size
        if not self._crashed_at:
            self._fired.append(f"{self.steps}:{fault}")
        if fault == _SHORT and size > 1:
            self._plan[self.steps + 1] = "ENOSPC"  # as the system does: a short write, then ENOSPC
            return size // 2
        error = path_error(_CODES[fault], action, path)
        if fault == _CRASH:
            self._crashed_at = self._crashed_at or self.steps
            error.why = f"the medium crashed at step {self._crashed_at}"
        error.todo = f"To reproduce this: FaultyMedium(medium, plan={self.replay!r})"
        raise error

    def _fault(self, action: str) -> str:
        planned = self._plan.get(self.steps, "")
        if planned or self._random is None or self._random.random() >= self._rate:
            return planned
        kinds = ["EIO", "EACCES"] if action in _READING else ["ENOSPC", "EIO", "EACCES", _SHORT]
        return self._random.choice(kinds)


class _FaultyFile(io.RawIOBase):
    """An open file; each read and write of it is a step."""

    def __init__(
        self, step: Callable[[str, StrPath, int], int], path: StrPath, inner: BinaryIO
    ) -> None:
        self._step = step
        self._path = path
        self._inner = inner

    def readable(self) -> bool:
        return self._inner.readable()

    def writable(self) -> bool:
        return self._inner.writable()

    def seekable(self) -> bool:
        return self._inner.seekable()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._step("read", self._path, 0)
        with memoryview(buffer) as view:
            data = self._inner.read(view.nbytes)
            view[: len(data)] = data
            return len(data)

    def write(self, data: ReadableBuffer, /) -> int:
        with memoryview(data) as view:
            size = self._step("write to", self._path, view.nbytes)
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
    # Leaving the block with an exception is how every medium's writer is discarded.
    writer.__exit__(InterruptedError, InterruptedError(), None)


def _parse(plan: str) -> dict[int, str]:
    if not isinstance(plan, str):
        raise InvalidError(
            f"plan is {plan!r}", why="it must be a text", todo="Such as plan='3:ENOSPC,9:crash'."
        )
    faults: dict[int, str] = {}
    for part in filter(None, plan.split(",")):
        number, _, fault = part.strip().partition(":")
        step = int(number) if number.isdecimal() else 0
        if step < 1 or fault not in _CODES:
            why = f"{part!r} does not have the form STEP:FAULT"
        elif step in faults:
            why = f"step {step} is listed twice"
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
