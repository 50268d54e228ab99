"""Makes the plans of a project's builds and releases, before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._host import processors
from core_infra.build._config.load import load_config
from core_infra.build._plan import BuildPlan, Goal, Packing
from core_infra.build._several import chosen_builds, plan_merge, plan_own, plan_together, restricted
from core_infra.build._single_plan import Request
from core_infra.errors import InvalidError, NotFoundError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Builder
    from core_infra.build._project import ProjectType


_LENGTH_MAX = 100


def make_plan(
    project: str | os.PathLike[str] = ".",
    *,
    goal: Goal | str = Goal.BUILD,
    packing: Packing | None = None,
    output: str | os.PathLike[str] | None = None,
    targets: Iterable[Target] = (),
    type: ProjectType | None = None,  # noqa: A002 - what it is called in build.yaml
    builder: Builder | None = None,
    name: str = "",
    version: str = "",
    snapshot: bool = False,
    threads: int | None = None,
    launcher: tuple[str, ...] = (),
    builds: Iterable[str] = (),
) -> BuildPlan:
    """Inspect a project and this host, and return the plan of a build; nothing is written.

    Args:
        project: the project's directory.
        goal: how far to go: "build", "package" or "release".
        packing: how artifacts are archived.
        output: the output directory; by default ``dist`` in the project.
        targets: the platforms; by default those of ``.core/build.yaml``, else the builder's: four
            common ones for Go, this host for others.
        type: the type of project; by default the one in ``.core/build.yaml``, else discovered.
        builder: the builder; by default the one for the type.
        name: the base name of artifacts; by default the project's name.
        version: the version of the artifacts; by default derived from the project's git tags, and
            for a release without them, that in the project's own file.
        snapshot: whether a release may be of uncommitted sources, or without a tag: its version
            has the commit, as in ``v1.2.3-snapshot.abcdef0.dirty``.
        threads: how many processors to use; by default all that this process may use.
        launcher: a program that starts the programs of the build, with arguments: ``nice -n 10``.
        builds: the names of some of the project's several builds; by default all.

    Raises:
        NotFoundError: the directory does not exist, or is not a project of a known type, or has no
            such build.
        ConfigError: ``.core/build.yaml`` or the project's own file is malformed.
        InvalidError: the output directory contains the project, or the builds belong to several
            releases.
        CoreInfraError: a file cannot be read.
    """
    plans = make_plans(
        project,
        Request(
            goal=Goal(goal),
            packing=packing or Packing(),
            targets=tuple(dict.fromkeys(targets)),
            type=type,
            builder=builder,
            name=name,
            version=version,
            snapshot=snapshot,
            threads=threads or processors(),
            launcher=launcher,
        ),
        output=output,
        builds=builds,
    )
    if plans[1:]:
        names = ", ".join(one.name or "that of the project" for one in plans)
        raise InvalidError(
            f"{plans[0].context.home} has several releases, and a plan is of one",
            why=f"there are {names}",
            todo="Choose builds of one release.",
            path=str(plans[0].context.home),
        )
    return plans[0]


def make_plans(
    project: str | os.PathLike[str],
    request: Request,
    *,
    output: str | os.PathLike[str] | None = None,
    builds: Iterable[str] = (),
) -> list[BuildPlan]:
    """The plans of all releases of a project: one, unless builds have releases of their own.

    Args:
        project: the project's directory.
        request: what is to be built.
        output: the output directory; by default ``dist`` in the project.
        builds: the names of some of the project's several builds; by default all.

    Raises:
        CoreInfraError: as :func:`make_plan` does.
    """
    where = _directory(project)
    _check_text("name", request.name)
    _check_text("version", request.version)
    settings = load_config(LocalMedium(where), ".")
    outputs = where / "dist" if output is None else Path(output).absolute()
    if not settings.builds:
        chosen_builds(where, settings, builds)
        plan = restricted(request, where, settings, outputs)
        plans = [plan] if plan else []
    else:
        chosen = chosen_builds(where, settings, builds)
        together = plan_together(request, where, settings, outputs, chosen)
        own = [plan_own(request, where, one, outputs) for one in chosen]
        plans = [plan for plan in (together, *own) if plan is not None]
    if not plans:
        raise NotFoundError(
            f"nothing of {where} is built for {', '.join(request.split)}",
            todo="core-infra release --plan shows the targets; give os/arch, os or any.",
            path=str(where),
        )
    return plans


def make_merge_plan(
    project: str | os.PathLike[str],
    parts: Iterable[str | Path],
    *,
    packing: Packing | None = None,
    output: str | os.PathLike[str] | None = None,
    version: str = "",
    snapshot: bool = False,
    threads: int | None = None,
) -> BuildPlan:
    """Return the plan of a release that is merged from its parts; nothing is built for it.

    The parts were made by ``core-infra release --split``, on any hosts, of this commit with this
    configuration.

    Args:
        project: the project's directory.
        parts: the directories of the parts, or directories that contain them.
        packing: how the artifacts of the parts were archived.
        output: the output directory; by default ``dist`` in the project.
        version: the version of the parts, if it is not that of the project here.
        snapshot: whether they are of uncommitted sources.
        threads: how many processors to use; by default all that this process may use.

    Raises:
        NotFoundError: the project's directory does not exist, or one has no part.
        InvalidError: a part is malformed, or of another project.
        ConfigError: ``.core/build.yaml`` is malformed.
        CoreInfraError: a file cannot be read.
    """
    where = _directory(project)
    _check_text("version", version)
    request = Request(
        goal=Goal.RELEASE,
        packing=packing or Packing(),
        version=version,
        snapshot=snapshot,
        threads=threads or processors(),
    )
    outputs = where / "dist" if output is None else Path(output).absolute()
    return plan_merge(request, where, load_config(LocalMedium(where), "."), outputs, parts)


def _directory(project: str | os.PathLike[str]) -> Path:
    """The directory of a project, absolute.

    Raises:
        NotFoundError: it does not exist.
    """
    try:
        where = Path(project).absolute()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"cannot find {str(project)!r}", why="the current directory was deleted"
        ) from error
    if not where.is_dir():
        raise NotFoundError(f"the directory {where} does not exist", path=str(where))
    return where


def _check_text(what: str, text: str) -> None:
    """Check a text that becomes part of commands and of the names of files.

    Raises:
        InvalidError: no artifact can have it.
    """
    if not text.isprintable() or len(text) > _LENGTH_MAX:
        raise InvalidError(
            f"no artifact can have the {what} {text[:_LENGTH_MAX]!r}",
            why=f"it must be one line of at most {_LENGTH_MAX} characters",
        )
