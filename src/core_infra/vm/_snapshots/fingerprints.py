"""Digests of what prepares a machine: of a function's code, and of files.

The digest of a function changes when its code is edited.

Its code counts, and what that refers to: constants, defaults, what it closes over, and the globals
that it names, the user's own functions, classes and modules among them, to any depth. What is of
other packages counts by its name, and an object of no known content by its class.

Names of files and numbers of lines do not count, so a function may be moved.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import os
import re
import stat
import sys
import sysconfig
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import core_infra
from core_infra.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_INSTALLED = ("/site-packages/", "/dist-packages/", "/pytest_core_infra/")
_NOT_THE_USERS = (
    f"{sysconfig.get_path('stdlib')}/",
    f"{os.path.dirname(core_infra.__file__)}/",  # noqa: PTH120 - a prefix of texts
    "<frozen ",
)
_SLOTS = (types.GetSetDescriptorType, types.MemberDescriptorType)
# pytest gives its temporary directories new numbers in each run.
_NUMBERED = re.compile(r"(pytest-of-[^/]+/pytest-)\d+(/popen-gw\d+)?")


def digest_of_code(function: Callable[..., object]) -> str | None:
    """The digest of a function with all that it refers to; None if its code cannot be read.

    Read are functions, methods, lambdas, partial objects and what decorators make of them.
    """
    read = function
    while isinstance(read, functools.partial):
        read = read.func
    if not isinstance(_unwrapped(read), types.FunctionType | types.MethodType):
        return None
    digest = hashlib.sha256()
    try:
        for part in _Reader().parts(function):
            digest.update(f"{len(part)}:{part}".encode("utf-8", "surrogatepass"))
    except Exception:  # noqa: BLE001 - an object of the user's that cannot even be looked at
        return None
    return digest.hexdigest()


def _unwrapped(value: Any) -> Any:
    """The function in a decorator written in C, such as functools.cache."""
    is_plain = isinstance(value, types.FunctionType | types.MethodType | type)
    return value if is_plain else getattr(value, "__wrapped__", value)


class _Reader:
    """Reads objects part by part; an object that may be part of itself is read once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, Any]] = {}  # with the object, so that the id stays its

    def parts(self, value: Any) -> Iterator[str]:
        """The parts of a value, as texts."""
        value = _unwrapped(value)
        kind = type(value)
        yield kind.__qualname__
        if value is None or kind in (bool, int, float, complex, bytes, type(...), range, slice):
            yield repr(value)
        elif kind is str:
            yield _NUMBERED.sub(r"\1", value)
        elif isinstance(value, os.PathLike):
            yield _NUMBERED.sub(r"\1", os.fsdecode(value))
        elif isinstance(value, enum.Enum):
            yield value.name
            yield from self.parts(value.value)
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        elif kind is tuple:  # equal ones are the same object or not, as it happens
            yield from self._all(value)
        elif kind is frozenset:
            yield from self._unordered(value)
        elif id(value) in self._seen:
            yield str(self._seen[id(value)][0])
        else:
            self._seen[id(value)] = (len(self._seen), value)
            yield from self._object(value)

    def _object(self, value: Any) -> Iterator[str]:
        if isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.ModuleType):
            yield value.__name__
        elif isinstance(value, set | frozenset):
            yield from self._unordered(value)
        elif (members := _members(value)) is not None:
            yield from self._all(members)
        else:
            yield from self.parts(type(value))
            yield str(getattr(value, "__qualname__", ""))  # of what is written in C

    def _unordered(self, values: Iterable[Any]) -> Iterator[str]:
        # Sorted: the order of texts in a set differs in each process.
        yield from sorted("\0".join(_Reader().parts(one)) for one in values)

    def _all(self, values: Iterable[Any]) -> Iterator[str]:
        for value in values:
            yield from self.parts(value)

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        own = _is_the_users(function.__code__.co_filename)
        if own:
            yield from self._code(function.__code__)
        else:
            yield f"{function.__module__}.{function.__qualname__}"
        yield from self.parts(function.__defaults__)
        yield from self.parts(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                yield "nothing yet"
            else:
                yield from self.parts(content)
        if own:
            yield from self._named(function.__code__, function.__globals__)

    def _code(self, code: types.CodeType) -> Iterator[str]:
        yield from (code.co_code.hex(), code.co_exceptiontable.hex())
        yield repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount))
        yield repr((code.co_flags, code.co_names, code.co_varnames, code.co_freevars))
        yield from self._all(code.co_consts)

    def _named(self, code: types.CodeType, namespace: dict[str, Any]) -> Iterator[str]:
        """The globals of a module that code names, and those of the user's modules among them."""
        names = sorted(_names(code))
        for name in names:
            if name not in namespace:
                continue
            value = namespace[name]
            yield name
            yield from self.parts(value)
            if isinstance(value, types.ModuleType) and _is_the_users(_file(value)):
                # Not by getattr, which may import.
                yield from self._all(vars(value)[one] for one in names if one in vars(value))

    def _class(self, kind: type) -> Iterator[str]:
        yield f"{kind.__module__}.{kind.__qualname__}"
        if not _is_the_users(_file(sys.modules.get(kind.__module__))):
            return
        yield from self._all(kind.__bases__)
        for name, value in sorted(vars(kind).items()):
            if name != "__firstlineno__" and not isinstance(value, _SLOTS):
                yield name
                yield from self.parts(value)


def _members(value: Any) -> Iterable[Any] | None:
    """The parts of an object of a known kind."""
    found: Iterable[Any] | None = None
    match value:
        case types.MethodType():
            found = (value.__func__, value.__self__)
        case functools.partial():
            found = (value.func, value.args, value.keywords)
        case property():
            found = (value.fget, value.fset, value.fdel)
        case staticmethod() | classmethod():
            found = (value.__func__,)
        case list() | tuple():
            found = value
        case dict():
            found = (part for item in value.items() for part in item)
        case _ if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            found = (type(value), *(getattr(value, name, None) for name in names))
    return found


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _file(module: types.ModuleType | None) -> str:
    return str(getattr(module, "__file__", None) or "<frozen ")


def _is_the_users(file: str) -> bool:
    return not file.startswith(_NOT_THE_USERS) and not any(part in file for part in _INSTALLED)


_EXECUTABLE = 0o111


def digest_of_files(paths: Iterable[str | os.PathLike[str]] | os.PathLike[str]) -> str:
    """One digest of files and of all that is in directories; their names do not count.

    Raises:
        NotFoundError: there is no such file or directory.
        InvalidError: it cannot be read, or is not a path.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    digest = hashlib.sha256()
    for path in paths:
        try:
            for line in _lines(Path(path), follow=True):
                digest.update(line + b"\n")
        except FileNotFoundError:
            raise NotFoundError(
                f"a prepared machine depends on {os.fspath(path)!r}, which is not there",
                why=f"a relative path begins at {Path.cwd()}",
            ) from None
        except (OSError, TypeError, ValueError) as error:
            raise InvalidError(f"cannot read depends={path!r}", why=str(error)) from error
    return digest.hexdigest()


def _lines(path: Path, *, follow: bool = False) -> Iterator[bytes]:
    status = path.stat() if follow else path.lstat()
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        yield b"link " + os.fsencode(os.readlink(path))  # noqa: PTH115 - as bytes
    elif stat.S_ISDIR(mode):
        for entry in sorted(path.iterdir()):
            yield b"entry " + os.fsencode(entry.name)
            yield from _lines(entry)
        yield b"end"
    elif stat.S_ISREG(mode):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        yield f"file {content} {bool(mode & _EXECUTABLE)}".encode()
    else:
        yield f"special {stat.S_IFMT(mode):o}".encode()
