"""Builds that are remembered: the same sources, asked for in the same way, are built once.

For tests, where many processes want the same artifacts at the same time. What is remembered is a
complete package, named by a digest of all that can influence it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from core_infra.build._artifact import Artifact
from core_infra.build._builders.sources import source_digest
from core_infra.build._pipeline import Package, carry_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._plan import Plan

_INDEX = "package.json"
_FORMAT = 1
_UNUSED = 30 * 24 * 3600.0
"""Seconds after which what nobody has used is forgotten."""

_INHERITED = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "GOFLAGS", "RUSTFLAGS", "NODE_ENV")
"""Variables of the environment that compilers listen to."""


def carry_out_cached(plan: Plan, cache: Path) -> Package:
    """Do what is planned, or copy what an earlier build of the same made.

    Args:
        plan: what to do; its builder is that of the catalogue, and nothing is signed.
        cache: the directory of what is remembered; processes may share it.

    Returns:
        A package of the plan's output directory; the files are copies, and may be changed.

    Raises:
        CoreInfraError: as :func:`~core_infra.build._pipeline.carry_out` does; failures are not
            remembered.
        OSError: the cache cannot be written.
    """
    plan.check()
    entry = cache / cache_key(plan)
    cache.mkdir(parents=True, exist_ok=True)
    # For each entry its own lock: others build meanwhile. It is small, and stays.
    with FileLock(cache / f"{entry.name}.lock"):
        if not (entry / _INDEX).is_file():
            _forget_unused(cache)
            _remember(carry_out(plan), entry)
        os.utime(entry)
        return _copied(entry, plan.config.output_dir)


def cache_key(plan: Plan) -> str:
    """A digest of all that can influence what a plan makes: sources, tools, settings, this code."""
    config = plan.config
    asked = {
        "format": _FORMAT,
        "code": _own_code(),
        "sources": source_digest(config.project_dir, config.output_dir, plan.builder.keeps),
        "goal": plan.goal,
        "type": plan.type,
        "targets": [str(target) for target in plan.targets],
        "tools": [[tool.name, tool.path, tool.version] for tool in plan.tools],
        "packing": [plan.packing.format, plan.packing.profile],
        "name": config.name,
        "version": config.version,
        "epoch": config.epoch,
        "settings": repr(config.settings.build),
        "environment": {name: os.environ.get(name) for name in _INHERITED},
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def _own_code() -> str:
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def _remember(package: Package, entry: Path) -> None:
    """Copy a package, complete or not at all."""
    unfinished = entry.with_suffix(".unfinished")
    for leftover in (unfinished, entry):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    data = {
        name: [_relative(one, package.directory) for one in artifacts]
        for name, artifacts in (("built", package.built), ("artifacts", package.artifacts))
    }
    documents = [str(path.relative_to(package.directory)) for path in package.documents]
    paths = {one["path"] for listed in data.values() for one in listed} | set(documents)
    for path in sorted(map(str, paths)):
        _copy(package.directory / path, unfinished / "files" / path)
    (unfinished / _INDEX).write_text(json.dumps({**data, "documents": documents}))
    unfinished.rename(entry)


def _copied(entry: Path, output: Path) -> Package:
    index = json.loads((entry / _INDEX).read_text())
    built, artifacts = (_absolute(index[name], output) for name in ("built", "artifacts"))
    documents = tuple(output / path for path in index["documents"])
    wanted = [*(Path(one.path) for one in (*built, *artifacts)), *documents]
    for path in dict.fromkeys(wanted):
        if not path.exists():
            _copy(entry / "files" / path.relative_to(output), path)
    return Package(output, built, artifacts, documents)


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


def _forget_unused(cache: Path) -> None:
    oldest = time.time() - _UNUSED
    for entry in cache.iterdir():
        if entry.is_dir() and entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)
