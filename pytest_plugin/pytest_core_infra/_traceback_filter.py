"""Tracebacks that end where the user's code does.

An error of the library says what failed, why, and what to do; the frames inside the library add
nothing to that, and a debugger is of use in the test. ``--full-trace`` shows all.
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


class _Of(enum.Enum):
    """Whose code a frame runs."""

    LIBRARY = "ours, and what runs it"
    BETWEEN = "what may stand between a caller and the library"
    INSTALLED = "another package's"
    USER = "the user's"


def _directory(module: ModuleType, below: str = "") -> str:
    return f"{Path(str(module.__file__)).parent / below}/"


_STDLIB = f"{sysconfig.get_path('stdlib')}/"
_PLACES = (  # the first that fits counts
    (_directory(core_infra, "testing"), _Of.USER),  # published tests
    (_directory(core_infra), _Of.LIBRARY),
    (f"{Path(__file__).parent}/", _Of.LIBRARY),
    (_directory(_pytest), _Of.BETWEEN),
    (_directory(pluggy), _Of.BETWEEN),
    (_directory(pexpect), _Of.BETWEEN),  # a console is one of its objects
)


def _of(file: str) -> _Of:
    for directory, whose in _PLACES:
        if file.startswith(directory):
            return whose
    if "/site-packages/" in file or "/dist-packages/" in file:
        return _Of.INSTALLED
    return _Of.BETWEEN if file.startswith(("<frozen ", _STDLIB)) else _Of.USER


def cut(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """End a traceback at the last call of the library by others; whether that was possible.

    In place, as debuggers and Python's own printing take the exception as it is.
    """
    entries = []
    entry: TracebackType | None = excinfo.tb
    while entry is not None:
        entries.append((entry, _of(entry.tb_frame.f_code.co_filename)))
        entry = entry.tb_next
    kinds = [kind for _, kind in entries]
    after = len(kinds) - kinds[::-1].index(_Of.USER) if _Of.USER in kinds else 0
    if _Of.LIBRARY not in kinds[after:]:
        return False
    caller = kinds.index(_Of.LIBRARY, after) - 1
    while caller >= 0 and kinds[caller] is _Of.BETWEEN:
        caller -= 1
    if _Of.USER not in kinds[: caller + 1]:  # called by pytest or a plugin: a fixture of ours
        return False
    entries[caller][0].tb_next = None
    excinfo.traceback = Traceback(excinfo.tb)  # else it keeps what it has read
    return True


def shortened(
    excinfo: pytest.ExceptionInfo[BaseException], config: pytest.Config
) -> ExceptionChainRepr | ReprExceptionInfo | None:
    """How to show an error of the library's; None if pytest's own way is to be used."""
    style = config.getoption("tbstyle")
    if not isinstance(excinfo.value, CoreInfraError) or style == "native":
        return None
    if not _users_frames(excinfo):
        return excinfo.getrepr(style="value", chain=False)
    return excinfo.getrepr(
        style="long" if style == "auto" else style,
        showlocals=config.getoption("showlocals"),
        funcargs=True,
        tbfilter=_users_frames,
        chain=_is_chained_to_the_users(excinfo.value),
    )


def _users_frames(excinfo: pytest.ExceptionInfo[BaseException]) -> Traceback:
    return excinfo.traceback.filter(
        lambda entry: _of(str(entry.path)) in (_Of.USER, _Of.INSTALLED)
    ).filter(excinfo)


def _is_chained_to_the_users(error: BaseException) -> bool:
    """Whether it was raised while code of the user's handled another; ours name their causes."""
    linked = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if linked is None or linked.__traceback__ is None:
        return False
    return bool(_users_frames(pytest.ExceptionInfo.from_exception(linked)))
