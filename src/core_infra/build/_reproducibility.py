"""Whether a build gives the same bytes again, where nothing else is the same.

The second build runs in another process, with another umask, time zone, language, directory,
number of threads and hash seed, on sources with other times, and later: by a day if ``faketime``
is installed and the builder's tools bear it, else by some seconds. What to vary is from
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
from core_infra.build._builders.sources import copy_sources
from core_infra.build._builders.workspace import STAGING
from core_infra.build._compare import Side, first_difference
from core_infra.build._config.load import config_path
from core_infra.build._errors import BuildFailedError
from core_infra.build._plan import Goal
from core_infra.errors import InvalidError
from core_infra.medium._local import LocalMedium
from core_infra.process._errors import RunFailedError
from core_infra.process._options import RunOptions
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._artifact import Artifact
    from core_infra.build._plan import Plan

_TICK = 2.0
"""Seconds: the coarsest time in an archive, that of zip."""

_CLOCK = ("faketime", "-f", "+26h")
"""Another date, but one at which certificates are still good."""

_YEAR = 365 * 24 * 3600


class NotReproducibleError(InvalidError):
    """Two builds of the same sources differ; neither is kept.

    Attributes:
        differences: the first of each artifact that differs, as text: member, field, both values.
    """


def compare_with_another(plan: Plan, made: Sequence[Artifact], work: Path) -> None:
    """Build again elsewhere, and compare what is still in the workspace with it.

    Args:
        plan: what was built.
        made: what to compare: what was built, or its archives if it is to be archived.
        work: the workspace; the second build is in it, too.

    Raises:
        NotReproducibleError: something differs.
        BuildFailedError: the second build failed, though the first did not.
        InvalidError: the plan's builder is not the one of the catalogue.
    """
    other = _build_again(plan, work / "again")
    medium = LocalMedium()
    differences = []
    for artifact in made:
        place = Path(artifact.path).relative_to(work / STAGING)
        sides = (Side(medium, artifact.path), Side(medium, str(other / place)))
        if not (other / place).exists():
            differences.append(f"{place}: missing from the second build")
        elif difference := first_difference(*sides):
            differences.append(str(difference))
    if differences:
        raise NotReproducibleError(
            f"{plan.config.project_dir} does not build the same twice",
            why="\n  ".join(["", *differences]),
            todo="Look for times, paths, random numbers and unsorted lists in what is named.",
            differences=differences,
        )


def _build_again(plan: Plan, place: Path) -> Path:
    config = plan.config
    if plan.builder is not BUILDERS[plan.type]:
        raise InvalidError(
            "only the usual builders can build twice",
            why=f"another process cannot be given {plan.builder!r}",
        )
    # A name of another length: paths in a program's tables move what follows.
    project = place / "sources-in-another-place"
    place.mkdir()
    copy_sources(
        config.project_dir,
        project,
        config.epoch + _YEAR,
        exclude=config.output_dir,
        keep=plan.builder.keeps,
    )
    _copy_config(config.project_dir, project)
    output = place / "dist"
    order = {
        "project": str(project),
        "output": str(output),
        "targets": [str(target) for target in plan.targets],
        "type": str(plan.type),
        "name": config.name,
        "version": config.version,
        "threads": 1 if config.threads > 1 else 2,
        "launcher": _CLOCK if plan.builder.bears_faketime and shutil.which(_CLOCK[0]) else (),
        # Signatures cannot be the same twice.
        "goal": str(Goal.BUILD if plan.goal is Goal.BUILD else Goal.PACKAGE),
        "packing": [plan.packing.format, plan.packing.profile],
    }
    _run_again(order, config.epoch, place)
    return output


def _run_again(order: dict[str, Any], epoch: int, place: Path) -> None:
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
            service.run_with_options(options)
    except RunFailedError as error:
        raise BuildFailedError(
            "the second build failed, though the first did not",
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
