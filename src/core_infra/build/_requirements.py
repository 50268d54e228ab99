"""What a build needs on this host: programs, Python packages, keys, disk space."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from typing import TYPE_CHECKING

from core_infra.build._archives.archive import Profile
from core_infra.build._plan import DiskSpace, FoundTool, Goal, Packing, SigningKey
from core_infra.errors import CoreInfraError
from core_infra.process._runner.runner import Runner
from core_infra.process._runner.spec import RunSpec
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext, Step, Tool
    from core_infra.build._config.settings import SigningSettings
    from core_infra.build._signing.choose import Signers
    from core_infra.process._runner.results import RunResult

_RESERVE = 64 << 20
"""Bytes for the output of a step, besides the copy of the sources: enough for a small program."""
_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+-]*")
_ERROR = re.compile(r"\s*(?:error|fatal)\b", re.IGNORECASE)
"""The line of an error, which may be followed by a stack trace."""
_TIMEOUT = 30.0


def find_tools(tools: Sequence[Tool], directory: Path) -> list[FoundTool]:
    """Find programs, and get the version of each, in parallel.

    They run in the project's directory: for rustup and other version managers, it determines which
    version runs.
    """
    where = str(directory)
    specs = [
        RunSpec(str(number), tool.version[0], tool.version[1:], dir=where, timeout=_TIMEOUT)
        for number, tool in enumerate(tools)
        if shutil.which(tool.version[0])
    ]
    with Service() as service:
        results = {one.name: one for one in Runner(service).run_parallel(specs).results}
    return [_found(tool, results.get(str(number))) for number, tool in enumerate(tools)]


def missing_packages(goal: Goal, packing: Packing) -> list[str]:
    """The missing Python packages for archives and a bill of materials, one sentence each."""
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


def _found(tool: Tool, result: RunResult | None) -> FoundTool:
    path = shutil.which(tool.version[0]) or ""
    if result is None:
        return FoundTool(tool.name, "", "", _sentence(f"{tool.name} is not on PATH", tool))
    if not result.passed:
        lines = result.output.strip().splitlines() or [result.reason.partition("\n")[0]]
        shown = next((line for line in lines if _ERROR.match(line)), lines[-1])
        what = f"{tool.name} does not work: {shlex.join(tool.version)} ended with {shown!r}"
        return FoundTool(tool.name, path, "", _sentence(what, tool))
    version = _VERSION.search(result.output)
    return FoundTool(tool.name, path, version[0] if version else "")


def _sentence(what: str, tool: Tool) -> str:
    return f"{what}. {tool.todo}" if tool.todo else what


def check_keys(
    signers: Signers, sign: SigningSettings, targets: Sequence[Target], problems: list[str]
) -> list[SigningKey]:
    """Check the keys of all signers; add what is missing to the problems."""
    if sign.unset and (signers.checksums or signers.darwin or signers.windows):
        problems.append(f"signing needs variables that are not set: {', '.join(sign.unset)}")
    systems = dict.fromkeys(target.os for target in targets)
    wanted = [(name, signer) for name in systems for signer in signers.for_os(name)]
    wanted += [("checksums", signer) for signer in signers.checksums]
    keys = []
    for signs, signer in wanted:
        description = ""
        try:
            description = signer.check()
        except CoreInfraError as error:
            problems.append(str(error))
        keys.append(SigningKey(signs, signer.name, description))
    return keys


def disk_space(context: BuildContext, size: int, steps: Sequence[Step]) -> DiskSpace:
    """The fuller of the file systems of the output directory and of the copies."""
    copies = len({step.copy for step in steps if step.copy is not None})
    reserve = len(steps) * _RESERVE
    needs = ((context.output_dir, reserve), (context.place, copies * size + reserve))
    spaces = [_space(path, needed) for path, needed in needs]
    return min(spaces, key=lambda space: space.free - space.needed)


def _space(path: Path, needed: int) -> DiskSpace:
    while not path.exists():
        path = path.parent
    return DiskSpace(str(path), shutil.disk_usage(path).free, needed)
