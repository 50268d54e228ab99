"""Checks that a build is reproducible, by a second build in a different environment.

The second build runs in another process, with another umask, time zone, language, directory,
number of threads and hash seed, on sources with other times, and later: by a day if ``faketime``
is installed and the builder's tools support it, else by some seconds. The variations are those of
https://reproducible-builds.org/docs and reprotest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.build._archives.contents import VARIABLE
from core_infra.build._builders.environment import redact
from core_infra.build._builders.registry import BUILDERS
from core_infra.build._builders.sources import sources_of
from core_infra.build._compare import Side, first_difference
from core_infra.build._config.load import config_path
from core_infra.build._errors import BuildFailedError, NotReproducibleError
from core_infra.build._plan import Goal
from core_infra.errors import InvalidError
from core_infra.medium._local import LocalMedium
from core_infra.process._errors import RunFailedError
from core_infra.process._options import RunOptions
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._artifact import Artifact
    from core_infra.build._plan import BuildPlan

_TICK = 2.0
"""Seconds: the resolution of times in zip files, the coarsest of all archives."""

_CLOCK = ("faketime", "-f", "+26h")
"""Another date, at which certificates are still valid."""

_YEAR = 365 * 24 * 3600


def check_reproducible(plan: BuildPlan, made: Sequence[Artifact]) -> None:
    """Build a second time, and compare the artifacts in the workspace with the result.

    Args:
        plan: the plan of the first build.
        made: the artifacts to compare, or their archives if the goal has archives.

    Raises:
        NotReproducibleError: the artifacts differ.
        BuildFailedError: the second build failed, but the first did not.
        InvalidError: the plan's builder is not a registered one.
    """
    other = _build_second(plan, plan.context.place / "again")
    medium = LocalMedium()
    differences = []
    for artifact in made:
        place = Path(artifact.path).relative_to(plan.context.assembly())
        sides = (Side(medium, artifact.path), Side(medium, str(other / place)))
        if not (other / place).exists():
            differences.append(f"{place}: missing from the second build")
        elif difference := first_difference(*sides):
            differences.append(str(difference))
    if differences:
        raise NotReproducibleError(
            f"the build of {plan.context.project_dir} is not reproducible",
            why="\n  ".join(["", *differences]),
            todo="Look for times, paths, random numbers and unsorted lists in these artifacts.",
            differences=differences,
        )


def _build_second(plan: BuildPlan, place: Path) -> Path:
    context = plan.context
    if plan.builder is not BUILDERS[plan.type]:
        raise InvalidError(
            "only registered builders can build twice",
            why=f"{plan.builder!r} cannot be passed to another process",
        )
    # A path of another length: if a program contains it, the offsets after it change.
    root = place / "sources-in-another-place"
    place.mkdir()
    sources_of(plan.builder, context, plan.targets).copy(root, context.epoch + _YEAR)
    project = root / context.inside
    if whole := context.whole:  # the second build is of the project as well
        project = Path(
            os.path.normpath(project / os.path.relpath(whole.project_dir, context.project_dir))
        )
    _copy_config(context.home, project)
    output = place / "dist"
    order = {
        "project": str(project),
        "output": str(output),
        "targets": [str(target) for target in plan.targets],
        "type": "" if whole else str(plan.type),
        "name": "" if whole else context.name,
        "builds": [whole.build] if whole else [],
        "version": context.version,
        "threads": 1 if context.threads > 1 else 2,
        "launcher": _CLOCK if plan.builder.supports_faketime and shutil.which(_CLOCK[0]) else (),
        # Two signatures are never equal.
        "goal": str(Goal.BUILD if plan.goal is Goal.BUILD else Goal.PACKAGE),
        "packing": [plan.packing.format, plan.packing.profile],
    }
    return Path(_run_second(order, context.epoch, place).splitlines()[-1])


def _run_second(order: dict[str, Any], epoch: int, place: Path) -> str:
    """Build; return the output directory."""
    time.sleep(_TICK)
    umask = ("-c", 'umask 077; exec "$@"', "again")
    options = RunOptions(
        "/bin/sh",
        (*umask, sys.executable, "-m", "core_infra.build._second_build"),
        dir=str(place),
        env={
            VARIABLE: str(epoch),
            "TZ": "Asia/Kathmandu",
            "LC_ALL": _other_locale(),
            "PYTHONHASHSEED": "1",
        },
        stdin=json.dumps(order).encode(),
    )
    try:
        with Service() as service:
            return service.run_with_options(options)
    except RunFailedError as error:
        raise BuildFailedError(
            "the second build failed, but the first did not",
            why=redact(str(error)),
            command=[],
            exit_code=error.exit_code,
            stdout=b"",
            stderr=b"",
            step="again",
        ) from None


def _copy_config(project: Path, copy: Path) -> None:
    path = config_path(".")  # git may ignore it
    if (project / path).is_file():
        (copy / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(project / path, copy / path)


def _other_locale() -> str:
    listed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False)
    usual = ("C", "POSIX", "en", os.environ.get("LC_ALL", "C"))
    return next((name for name in listed.stdout.split() if not name.startswith(usual)), "POSIX")
