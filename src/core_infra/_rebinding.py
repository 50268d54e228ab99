"""Copies of the system's modules for :mod:`core_infra._unpatched`, made when this is imported."""

from __future__ import annotations

import builtins
import fnmatch as _fnmatch
import functools
import genericpath
import io as _io
import os as _os
import pathlib as _pathlib
import posixpath
import select as _select
import shutil as _shutil
import signal as _signal
import socket as _socket
import subprocess as _subprocess
import tempfile as _tempfile
import time as _time
from types import CellType, FunctionType, ModuleType, SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

_BUILTINS = dict(vars(builtins))
# Of clock_gettime(2): the time of the last tick, by two clocks.
_REALTIME_COARSE, _MONOTONIC_COARSE = 5, 6


def _bound(module: ModuleType, **others: Any) -> Any:
    """A namespace like a module; its functions and classes use it, and *others*, as globals."""
    space = SimpleNamespace(**{**vars(module), **others})
    names = vars(space)
    names["__builtins__"] = _BUILTINS
    for name, value in vars(module).items():
        if name not in others and getattr(value, "__module__", None) == module.__name__:
            names[name] = _rebound(value, vars(module), names)
    return space


def _rebound(value: Any, old: dict[str, Any], new: dict[str, Any]) -> Any:
    """A copy of a function, or of a class's methods, with other globals; else the value itself."""
    if isinstance(value, FunctionType):
        closure = value.__closure__
        if value.__globals__ is not old and closure:  # a decorator's
            closure = tuple(CellType(_rebound(one.cell_contents, old, new)) for one in closure)
        names = new if value.__globals__ is old else value.__globals__
        copy = FunctionType(value.__code__, names, value.__name__, value.__defaults__, closure)
        copy.__kwdefaults__ = value.__kwdefaults__
        copy.__dict__.update(value.__dict__)
        return copy
    if isinstance(value, classmethod | staticmethod):
        return type(value)(_rebound(value.__func__, old, new))
    if isinstance(value, property):
        return property(*(_rebound(one, old, new) for one in (value.fget, value.fset, value.fdel)))
    if isinstance(value, type) and value.__bases__ == (object,):  # and no error, to be caught
        parts = {k: v for k, v in vars(value).items() if k not in ("__dict__", "__weakref__")}
        return type(value.__name__, (), {k: _rebound(v, old, new) for k, v in parts.items()})
    return value


_generic = _bound(genericpath)
_path = _bound(
    posixpath,
    **{
        name: value
        for name, value in vars(_generic).items()
        if name in vars(posixpath) and not name.startswith("__")
    },
)
os = _bound(_os, path=_path)
vars(_generic)["os"] = vars(_path)["os"] = os

# Not time.monotonic: patches of C functions leave clock_gettime and its clocks unchanged.
time = SimpleNamespace(**vars(_time))
time.monotonic = functools.partial(_time.clock_gettime, _time.CLOCK_MONOTONIC)
time.time = functools.partial(_time.clock_gettime, _REALTIME_COARSE)


def _time_ns(read: Any = _time.clock_gettime_ns, precise: int = _time.CLOCK_MONOTONIC) -> int:
    """The time in nanoseconds: that of the last tick, and what has passed since."""
    while True:
        tick = read(_MONOTONIC_COARSE)
        at_tick, now = read(_REALTIME_COARSE), read(precise)
        if read(_MONOTONIC_COARSE) == tick:
            return int(at_tick + now - tick)


time.time_ns = _time_ns

fnmatch = _bound(_fnmatch, os=os)
io = SimpleNamespace(**vars(_io))
select = SimpleNamespace(**vars(_select))
signal = _bound(_signal)
socket = _bound(_socket, os=os)
shutil = _bound(_shutil, os=os)
tempfile = _bound(_tempfile, _os=os, _io=io, _shutil=shutil)
subprocess = _bound(_subprocess, os=os, io=io, signal=signal, select=select, _time=time.monotonic)


class Path(_pathlib.PosixPath):
    """A path of the real file system."""

    __slots__ = ()

    def open(  # type: ignore[override] # without pathlib's overloads
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """As of any path; so are all other methods."""
        opened: IO[Any] = io.open(self, mode, buffering, encoding, errors, newline)
        return opened

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            data: bytes = file.read()
            return data

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        with self.open("r", -1, encoding, errors) as file:
            text: str = file.read()
            return text

    def write_bytes(self, data: Any) -> int:
        with self.open("wb") as file:
            return file.write(data)

    def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> int:
        with self.open("w", -1, encoding, errors, newline) as file:
            return file.write(data)

    def stat(self, *, follow_symlinks: bool = True) -> _os.stat_result:
        status: _os.stat_result = os.stat(self, follow_symlinks=follow_symlinks)
        return status

    def lstat(self) -> _os.stat_result:
        return self.stat(follow_symlinks=False)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return bool(os.path.exists(self) if follow_symlinks else os.path.lexists(self))

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return bool(os.path.isdir(self)) and (follow_symlinks or not self.is_symlink())

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return bool(os.path.isfile(self)) and (follow_symlinks or not self.is_symlink())

    def is_symlink(self) -> bool:
        return bool(os.path.islink(self))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - pathlib's
        try:
            os.mkdir(self, mode)
        except FileNotFoundError:
            if not parents or self.parent == self:
                raise
            self.parent.mkdir(parents=True, exist_ok=True)
            self.mkdir(mode, exist_ok=exist_ok)
        except OSError:
            if not exist_ok or not self.is_dir():
                raise

    def rmdir(self) -> None:
        os.rmdir(self)

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - pathlib's
        try:
            os.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: Any) -> Path:
        os.rename(self, target)
        return type(self)(target)

    def replace(self, target: Any) -> Path:
        os.replace(self, target)
        return type(self)(target)

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        os.chmod(self, mode, follow_symlinks=follow_symlinks)

    def symlink_to(self, target: Any, target_is_directory: bool = False) -> None:  # noqa: FBT001, FBT002 - pathlib's
        os.symlink(target, self, target_is_directory)

    def readlink(self) -> Path:
        return type(self)(os.readlink(self))

    def resolve(self, strict: bool = False) -> Path:  # noqa: FBT001, FBT002 - pathlib's
        return type(self)(os.path.realpath(self, strict=strict))

    def iterdir(self) -> Generator[Path]:
        for name in os.listdir(self):
            yield self / name

    def glob(self, pattern: str, **_options: Any) -> Generator[Path]:
        first, _, rest = pattern.partition("/")
        try:
            names = os.listdir(self)
        except OSError:
            return
        for name in fnmatch.filter(names, first):
            if rest:
                yield from (self / name).glob(rest)
            else:
                yield self / name
