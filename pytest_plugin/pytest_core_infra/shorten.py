"""Tracebacks of the library's errors that end where the user's code does.

Such an error says what failed, why, and what to do; the frames inside the library add nothing to
that. ``--full-trace`` shows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import _pytest
import pluggy
import pytest

import core_infra
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from _pytest._code.code import ExceptionChainRepr, ReprExceptionInfo, Traceback

_NOT_THE_USERS = tuple(
    Path(str(file)).parent
    for file in (core_infra.__file__, __file__, _pytest.__file__, pluggy.__file__)
)


def shortened(
    excinfo: pytest.ExceptionInfo[BaseException], config: pytest.Config
) -> ExceptionChainRepr | ReprExceptionInfo | None:
    """How to show an error of the library's; None if pytest's own way is to be used."""
    style = config.getoption("tbstyle")
    if (
        not isinstance(excinfo.value, CoreInfraError)
        or config.getoption("fulltrace")
        or style == "native"
    ):
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
        lambda entry: (
            not any(Path(entry.path).is_relative_to(directory) for directory in _NOT_THE_USERS)
        )
    ).filter(excinfo)


def _is_chained_to_the_users(error: BaseException) -> bool:
    """Whether it was raised while code of the user's handled another; ours name their causes."""
    linked = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if linked is None or linked.__traceback__ is None:
        return False
    return bool(_users_frames(pytest.ExceptionInfo.from_exception(linked)))
