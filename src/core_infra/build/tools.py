"""The programs that a build needs: where they are, and which versions."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.process.runner.runner import Runner
from core_infra.process.runner.spec import RunSpec
from core_infra.process.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build.builders.builder import Tool
    from core_infra.process.runner.results import RunResult

_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+-]*")
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class FoundTool:
    """A program that a build needs.

    Attributes:
        name: what people call it.
        path: where it is; empty if it is missing.
        version: what it says of itself; empty if it says nothing that looks like a version.
        problem: why it cannot be used, and how to get it; empty if it can.
    """

    name: str
    path: str
    version: str
    problem: str = ""


def find_tools(tools: Sequence[Tool]) -> list[FoundTool]:
    """Look for programs and ask each for its version, all at once."""
    specs = [
        RunSpec(str(number), tool.version[0], tool.version[1:], timeout=_TIMEOUT)
        for number, tool in enumerate(tools)
        if shutil.which(tool.version[0])
    ]
    with Service() as service:
        results = {one.name: one for one in Runner(service).run_parallel(specs).results}
    return [_found(tool, results.get(str(number))) for number, tool in enumerate(tools)]


def _found(tool: Tool, asked: RunResult | None) -> FoundTool:
    path = shutil.which(tool.version[0]) or ""
    if asked is None:
        return FoundTool(tool.name, "", "", _sentence(f"{tool.name} is not on PATH", tool))
    if not asked.passed:
        last = (asked.output.strip() or asked.reason).splitlines()[-1]
        what = f"{tool.name} does not work: {' '.join(tool.version)} says {last!r}"
        return FoundTool(tool.name, path, "", _sentence(what, tool))
    version = _VERSION.search(asked.output)
    return FoundTool(tool.name, path, version[0] if version else "")


def _sentence(what: str, tool: Tool) -> str:
    return f"{what}. {tool.todo}" if tool.todo else what
