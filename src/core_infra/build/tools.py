"""The programs that a build needs: where they are, and which versions."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.build.archive import Profile
from core_infra.build.plan import Goal
from core_infra.process.runner.runner import Runner
from core_infra.process.runner.spec import RunSpec
from core_infra.process.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build.builders.builder import Tool
    from core_infra.build.plan import Packing
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


def missing_packages(goal: Goal, packing: Packing) -> list[str]:
    """The Python packages that archives and a bill of materials need, and that are not installed.

    One sentence each.
    """
    modules = []
    if goal is not Goal.BUILD:
        modules.append("isal" if packing.profile is Profile.FAST else "zlib_ng")
    if goal is Goal.RELEASE:
        modules.append("cyclonedx")
    return [
        f"the package {name} is not installed. Install it with: pip install core-infra[build]"
        for name in modules
        if importlib.util.find_spec(name) is None
    ]


def _found(tool: Tool, asked: RunResult | None) -> FoundTool:
    path = shutil.which(tool.version[0]) or ""
    if asked is None:
        return FoundTool(tool.name, "", "", _sentence(f"{tool.name} is not on PATH", tool))
    if not asked.passed:
        said = (asked.output.strip().splitlines() or [asked.reason.partition("\n")[0]])[-1]
        what = f"{tool.name} does not work: {shlex.join(tool.version)} ended with {said!r}"
        return FoundTool(tool.name, path, "", _sentence(what, tool))
    version = _VERSION.search(asked.output)
    return FoundTool(tool.name, path, version[0] if version else "")


def _sentence(what: str, tool: Tool) -> str:
    return f"{what}. {tool.todo}" if tool.todo else what
