"""Ends tracebacks where the user's code ends.

An error of the library says what failed, why, and what to do. The frames inside the library add
nothing to that, and a debugger is more useful in the test. ``--full-trace`` shows all frames.
"""

from __future__ import annotations

import enum
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import _pytest
import pexpect
import pluggy
import pytest
from _pytest._code import Traceback

import core_infra
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from _pytest._code.code import ExceptionChainRepr, ReprExceptionInfo


class _Owner(enum.Enum):
    """The owner of the code that a frame runs."""

    LIBRARY = "this library, and its plugin"
    BETWEEN = "code that may be between a caller and the library"
    INSTALLED = "another package"
    USER = "the user"


def _directory(module: ModuleType, below: str = "") -> str:
    return f"{Path(str(module.__file__)).parent / below}/"


_STDLIB = f"{sysconfig.get_path('stdlib')}/"
_PLACES = (  # the first match counts
    (_directory(core_infra, "testing"), _Owner.USER),  # published tests
    (_directory(core_infra), _Owner.LIBRARY),
    (f"{Path(__file__).parent}/", _Owner.LIBRARY),
    (_directory(_pytest), _Owner.BETWEEN),
    (_directory(pluggy), _Owner.BETWEEN),
    (_directory(pexpect), _Owner.BETWEEN),  # a console is one of its objects
)


def _owner(file: str) -> _Owner:
    for directory, owner in _PLACES:
        if file.startswith(directory):
            return owner
    if "/site-packages/" in file or "/dist-packages/" in file:
        return _Owner.INSTALLED
    return _Owner.BETWEEN if file.startswith(("<frozen ", _STDLIB)) else _Owner.USER


def cut(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """End a traceback at the last call into the library; return whether that was possible.

    This changes the exception itself, because debuggers and Python's own printing use it.
    """
    entries = []
    entry: TracebackType | None = excinfo.tb
    while entry is not None:
        entries.append((entry, _owner(entry.tb_frame.f_code.co_filename)))
        entry = entry.tb_next
    kinds = [kind for _, kind in entries]
    after = len(kinds) - kinds[::-1].index(_Owner.USER) if _Owner.USER in kinds else 0
    if _Owner.LIBRARY not in kinds[after:]:
        return False
    caller = kinds.index(_Owner.LIBRARY, after) - 1
    while caller >= 0 and kinds[caller] is _Owner.BETWEEN:
        caller -= 1
    if _Owner.USER not in kinds[: caller + 1]:  # called by pytest or a plugin: one of our fixtures
        return False
    entries[caller][0].tb_next = None
    excinfo.traceback = Traceback(excinfo.tb)  # else it keeps the old entries
    return True


def shortened(
    excinfo: pytest.ExceptionInfo[BaseException], config: pytest.Config
) -> ExceptionChainRepr | ReprExceptionInfo | None:
    """The representation of an error of the library; None to use pytest's own."""
    style = config.getoption("tbstyle")
    if not isinstance(excinfo.value, CoreInfraError) or style == "native":
        return None
    if not _user_frames(excinfo):
        return excinfo.getrepr(style="value", chain=False)
    return excinfo.getrepr(
        style="long" if style == "auto" else style,
        showlocals=config.getoption("showlocals"),
        funcargs=True,
        tbfilter=_user_frames,
        chain=_is_chained_to_user_code(excinfo.value),
    )


def _user_frames(excinfo: pytest.ExceptionInfo[BaseException]) -> Traceback:
    return excinfo.traceback.filter(
        lambda entry: _owner(str(entry.path)) in (_Owner.USER, _Owner.INSTALLED)
    ).filter(excinfo)


def _is_chained_to_user_code(error: BaseException) -> bool:
    """Whether it was raised while the user's code handled another error."""
    linked = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if linked is None or linked.__traceback__ is None:
        return False
    return bool(_user_frames(pytest.ExceptionInfo.from_exception(linked)))
