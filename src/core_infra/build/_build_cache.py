"""A cache of builds: the same sources with the same options are built only once.

For tests, in which many processes need the same artifacts at the same time. An entry is a complete
build result, under a digest of all that can influence it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from core_infra.build._artifact import Artifact
from core_infra.build._builders.sources import sources_of
from core_infra.build._pipeline import BuildResult, carry_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._plan import BuildPlan

_INDEX = "package.json"
_FORMAT = 1
_UNUSED = 30 * 24 * 3600.0
"""Seconds after which unused entries are deleted."""

_OWN = re.compile(
    r"PYTEST_|COV_|COVERAGE_|CORE_INFRA_|SSH_|XDG_|DBUS_|LC_|(?:PWD|OLDPWD|SHLVL|_|TERM|COLUMNS|LINES"
    r"|TMPDIR|TZ|LANG|HOSTNAME|DISPLAY|PYTHONHASHSEED|PS1|LS_COLORS)$"
)
"""Variables of the session and of tests; all others may change what a tool makes."""


def carry_out_cached(plan: BuildPlan, cache: Path) -> BuildResult:
    """Carry out a plan, or copy the result of an earlier build of the same.

    Args:
        plan: the plan; its builder must be a registered one, and nothing is signed.
        cache: the directory of the cache; processes may share it.

    Returns:
        The result, in the plan's output directory; the files are copies and may be changed.

    Raises:
        CoreInfraError: as :func:`~core_infra.build.carry_out` does; failures are not cached.
        OSError: the cache cannot be written.
    """
    plan.check()
    entry = cache / cache_key(plan)
    cache.mkdir(parents=True, exist_ok=True)
    # Each entry has its own lock, so others can be built at the same time. Lock files stay.
    with FileLock(cache / f"{entry.name}.lock"):
        if not (entry / _INDEX).is_file():
            _delete_unused(cache)
            _store(carry_out(plan), entry)
        os.utime(entry)
        return _copy_out(entry, plan.context.output_dir)


def cache_key(plan: BuildPlan) -> str:
    """A digest of all that can influence a build: sources, tools, settings, this code."""
    if plan.builds:
        keys = ",".join(map(cache_key, plan.builds))
        return hashlib.sha256(f"{plan.context.name}:{keys}".encode()).hexdigest()[:32]
    context = plan.context
    inputs = {
        "format": _FORMAT,
        "code": _own_code(),
        "sources": sources_of(plan.builder, context, plan.targets).digest,
        "goal": plan.goal,
        "type": plan.type,
        "targets": [str(target) for target in plan.targets],
        "tools": [[tool.name, tool.path, tool.version] for tool in plan.tools],
        "packing": [plan.packing.format, plan.packing.profile],
        "name": context.name,
        "version": context.version,
        "epoch": context.epoch,
        "settings": repr(
            (
                *(context.settings.build, context.settings.archive, context.settings.hooks),
                *(context.settings.packages, context.settings.oci),
            )
        ),
        "commit": context.commit if context.settings.build.stamp else "",
        "environment": {name: value for name, value in os.environ.items() if not _OWN.match(name)},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def _own_code() -> str:
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def _store(result: BuildResult, entry: Path) -> None:
    """Copy a result into the cache, atomically."""
    unfinished = entry.with_suffix(".unfinished")
    for leftover in (unfinished, entry):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    data = {
        name: [_relative(one, result.directory) for one in artifacts]
        for name, artifacts in (("built", result.built), ("artifacts", result.artifacts))
    }
    documents = [str(path.relative_to(result.directory)) for path in result.documents]
    paths = {one["path"] for listed in data.values() for one in listed} | set(documents)
    for path in sorted(map(str, paths)):
        _copy(result.directory / path, unfinished / "files" / path)
    (unfinished / _INDEX).write_text(json.dumps({**data, "documents": documents}))
    unfinished.rename(entry)


def _copy_out(entry: Path, output: Path) -> BuildResult:
    index = json.loads((entry / _INDEX).read_text())
    built, artifacts = (_absolute(index[name], output) for name in ("built", "artifacts"))
    documents = tuple(output / path for path in index["documents"])
    wanted = [*(Path(one.path) for one in (*built, *artifacts)), *documents]
    for path in dict.fromkeys(wanted):
        if not path.exists():
            _copy(entry / "files" / path.relative_to(output), path)
    return BuildResult(output, built, artifacts, documents)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _relative(artifact: Artifact, directory: Path) -> dict[str, object]:
    return asdict(replace(artifact, path=str(Path(artifact.path).relative_to(directory))))


def _absolute(listed: Sequence[dict[str, object]], output: Path) -> tuple[Artifact, ...]:
    made = (Artifact(**one) for one in listed)  # type: ignore[arg-type]
    return tuple(replace(one, path=str(output / one.path)) for one in made)


def _delete_unused(cache: Path) -> None:
    oldest = time.time() - _UNUSED
    for entry in cache.iterdir():
        if entry.is_dir() and entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)
