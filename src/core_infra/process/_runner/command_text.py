"""A command written as one text: split as a shell would do it, but not read by one."""

from __future__ import annotations

import re
import shlex

from core_infra.process._runner.variables import REFERENCE

_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_EXPANDED = re.compile(r"[$`]|\\\n")
"""What double quotes do not protect."""
_FOR_A_SHELL = re.compile(r"[|&;<>()$`*\n]")
"""What is something else in a shell than here, where the program would get it as it is."""
_DOLLAR = "\0"
"""Stands for a protected dollar while variables are replaced; no command can have it."""


def split(text: str) -> list[str]:
    """The words of a command, before variables are replaced; :func:`unprotect` is for after that.

    Raises:
        ValueError: it cannot be split, or needs a shell.
    """
    if found := _FOR_A_SHELL.search(_QUOTED.sub(_unprotected, REFERENCE.sub("", text))):
        hint = "write it under 'shell' instead of 'command', or within single quotes"
        raise ValueError(f"{found[0]!r} needs a shell: {hint}")
    if _DOLLAR in text:
        raise ValueError("a NUL character is in the command")
    try:
        return shlex.split(_QUOTED.sub(_protected, text))
    except ValueError as error:
        raise ValueError(f"{error} in {text!r}") from None


def unprotect(word: str) -> str:
    """A word as the program is to get it."""
    return word.replace(_DOLLAR, "$")


def _unprotected(quoted: re.Match[str]) -> str:
    return "".join(_EXPANDED.findall(quoted[0])) if quoted[0][0] == '"' else ""


def _protected(quoted: re.Match[str]) -> str:
    return quoted[0] if quoted[0][0] == '"' else quoted[0].replace("$", _DOLLAR)
