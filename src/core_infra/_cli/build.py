"""``core-infra build``, ``release`` and ``discover``: from a project's directory to artifacts."""

from __future__ import annotations

import contextlib
import functools
import json
import shlex
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from core_infra._cli.exit_codes import FULL
from core_infra._cli.release_sizes import Sizes
from core_infra._host import processors
from core_infra.build._archives.archive import Format, Profile
from core_infra.build._artifact import Target
from core_infra.build._changelog import release_notes
from core_infra.build._pipeline import carry_out
from core_infra.build._plan import Goal, Packing
from core_infra.build._preflight import make_merge_plan, make_plans
from core_infra.build._project import ProjectType, explain
from core_infra.build._publish.publish import (
    is_finished,
    publish_problems,
    publish_release,
    publish_requests,
)
from core_infra.build._single_plan import Request
from core_infra.errors import CoreInfraError, NotFoundError, UnavailableError
from core_infra.medium._local import LocalMedium
from core_infra.process._runner.events import RunFinished, SpecFinished
from core_infra.process._runner.live_display import LiveDisplay
from core_infra.process._runner.results import RunInterruptedError
from core_infra.process._runner.text_display import LogDisplay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core_infra.build._pipeline import BuildResult
    from core_infra.build._plan import BuildPlan
    from core_infra.process._runner.events import RunEvent
    from core_infra.process._runner.results import RunResult

F = TypeVar("F", bound="Callable[..., Any]")

_OPTIONS = (
    click.argument("project", default=".", type=click.Path(file_okay=False)),
    click.option("-o", "--output", type=click.Path(file_okay=False), help="Default: PROJECT/dist."),
    click.option("-t", "--target", "targets", multiple=True, help="os/arch; may be repeated."),
    click.option(
        "--build", "builds", multiple=True, help="One of the project's builds; may be repeated."
    ),
    click.option(
        "--type",
        "kind",
        type=click.Choice([one.value for one in ProjectType]),
        help="Default: what is discovered.",
    ),
    click.option("--name", default="", help="The name of the artifacts."),
    click.option("--version", default="", help="Default: from the project's git tags."),
    click.option(
        "--format", "form", type=click.Choice([one.value for one in Format]), default="gz"
    ),
    click.option("--profile", type=click.Choice([one.value for one in Profile]), default="default"),
    click.option("-j", "--threads", type=click.IntRange(1), help="Does not change the output."),
    click.option(
        "--twice",
        is_flag=True,
        help="Rebuild in a different environment; fail unless the output is bit-identical.",
    ),
    click.option("--plan", "only_plan", is_flag=True, help="Print the plan and exit."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def _with_build_options(function: F) -> F:
    """Add the arguments that say what to build to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@_with_build_options
@click.option("--archive", is_flag=True, help="Archive too, with checksums and a manifest.")
def build(*, archive: bool, **chosen: Any) -> None:
    """Build PROJECT: dist/linux_amd64/app and so on.

    Either all of it is there afterwards, or nothing has changed.
    """
    _run(Goal.PACKAGE if archive else Goal.BUILD, chosen, dry=chosen["only_plan"])


@click.command()
@_with_build_options
@click.option(
    "--snapshot",
    is_flag=True,
    help="Release uncommitted sources; the version says that it is a snapshot.",
)
@click.option(
    "--publish",
    is_flag=True,
    help="Publish the release where .core/build.yaml says; a dry run prints all requests.",
)
@click.option("--notes", is_flag=True, help="Print the notes of the release and exit.")
@click.option(
    "--split",
    multiple=True,
    metavar="TARGET",
    help="Make only the part for os/arch, os or any; may be repeated.",
)
@click.option(
    "--merge",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="Make the release of the parts in this directory; may be repeated.",
)
@click.option(
    "--dry-run/--no-dry-run", default=True, help="A dry run (default) only plans and checks."
)
def release(*, dry_run: bool, notes: bool, **chosen: Any) -> None:
    """Build, sign, archive and describe PROJECT; a dry run by default.

    The release is then in dist: archives, CHECKSUMS.txt and its signature, a manifest, a bill of
    materials and a statement of provenance. core-infra verify checks it. Nothing is published
    without --publish.
    """
    if chosen["split"] and (chosen["merge"] or chosen["publish"]):
        raise click.UsageError("--split makes a part, which --merge publishes with the others.")
    if notes:
        for plan in _plans(Goal.RELEASE, chosen):
            click.echo(release_notes(plan))
        return
    dry = dry_run or chosen["only_plan"]
    _run(Goal.RELEASE, chosen, dry=dry)
    if dry_run and not chosen["as_json"]:
        click.echo("Nothing was built: this was a dry run. Do it with --no-dry-run.")


@click.command()
@click.argument("directory", default=".", type=click.Path(exists=True, file_okay=False))
@click.option("--explain", "explained", is_flag=True, help="Show which file decides for each type.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def discover(directory: str, *, explained: bool, as_json: bool) -> None:
    """Print the project types of DIRECTORY, the most specific first."""
    findings = explain(LocalMedium(), directory)
    shown = findings if explained else [finding for finding in findings if finding.found]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in shown], indent=2))
    elif explained:
        for finding in findings:
            click.echo(f"{'✓' if finding.found else ' '} {finding.type:<9} {finding.why}")
    else:
        for finding in shown:
            click.echo(finding.type)
    if not any(finding.found for finding in findings):
        raise NotFoundError(
            f"{directory!r} is not a project",
            why="no file in it is typical of a project",
            todo="core-infra discover --explain shows what was looked for.",
        )


def _run(goal: Goal, chosen: dict[str, Any], *, dry: bool) -> None:
    try:
        _plan_and_run(goal, chosen, dry=dry)
    except OSError as error:
        if isinstance(error, CoreInfraError) or error.errno in FULL:
            raise
        raise UnavailableError(
            f"cannot build {chosen['project']!r}",
            why=f"{error.filename}: {error.strerror}" if error.filename else str(error),
        ) from error


def _plan_and_run(goal: Goal, chosen: dict[str, Any], *, dry: bool) -> None:
    """Plan a build, and run it unless *dry*.

    Args:
        goal: how far to go.
        chosen: the options of :func:`_with_build_options`.
        dry: only show the plan.

    Raises:
        CoreInfraError: as make_plan and carry_out do; a plan with problems is shown first.
    """
    plans, publishes = _plans(goal, chosen), chosen.get("publish", False)
    if publishes:
        plans = [replace(one, problems=(*one.problems, *publish_problems(one))) for one in plans]
    for note in dict.fromkeys(note for plan in plans for note in plan.notes):
        click.echo(f"note: {note}", err=True)
    if dry:
        _show_plans(plans, as_json=chosen["as_json"], publishes=publishes)
    for plan in plans:
        plan.check()  # all of them, before the first is built
    if dry:
        return
    results = []
    for plan in plans:
        if publishes and is_finished(plan):
            place = plan.context.output_dir
            click.echo(f"note: {place} has this release already: it is not built again", err=True)
        else:
            results.append((plan, _carry_out(plan, chosen)))
    _show_results(results, as_json=chosen["as_json"])
    for plan in plans if publishes else ():
        for address in publish_release(plan, report=functools.partial(click.echo, err=True)):
            click.echo(address)


def _plans(goal: Goal, chosen: dict[str, Any]) -> list[BuildPlan]:
    packing = Packing(Format(chosen["form"]), Profile(chosen["profile"]))
    if chosen.get("merge"):
        plan = make_merge_plan(
            chosen["project"],
            chosen["merge"],
            packing=packing,
            output=chosen["output"],
            version=chosen["version"],
            snapshot=chosen["snapshot"],
            threads=chosen["threads"],
        )
        return [plan]
    request = Request(
        goal=goal,
        packing=packing,
        targets=tuple(dict.fromkeys(Target.parse(text) for text in chosen["targets"])),
        type=ProjectType(chosen["kind"]) if chosen["kind"] else None,
        name=chosen["name"],
        version=chosen["version"],
        snapshot=chosen.get("snapshot", False),
        threads=chosen["threads"] or processors(),
        split=tuple(chosen.get("split", ())),
    )
    return make_plans(chosen["project"], request, output=chosen["output"], builds=chosen["builds"])


def _carry_out(plan: BuildPlan, chosen: dict[str, Any]) -> BuildResult:
    before = Sizes(plan.context.output_dir)
    try:
        with _progress() as listener:
            result = carry_out(plan, twice=chosen["twice"], listener=listener)
    except RunInterruptedError as error:
        raise error.__cause__ or error from None  # the signal determines the exit code
    if plan.goal is not Goal.BUILD:
        for line in Sizes(result.directory).lines(before):
            click.echo(line, err=True)
    return result


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[RunEvent], None]]:
    # On stderr: stdout lists the artifacts.
    console = Console(stderr=True)
    if console.is_terminal:
        with LiveDisplay(console) as display:
            yield lambda event: display(_brief(event))
    else:
        log = LogDisplay(sys.stderr)
        yield lambda event: None if _is_failure(event) else log(_brief(event))


def _is_failure(event: RunEvent) -> bool:
    """Whether this event lists failures: the error that follows says more."""
    return isinstance(event, RunFinished) and not event.result.success


def _brief(event: RunEvent) -> RunEvent:
    """Remove the output of programs: the error that follows has it."""
    if isinstance(event, SpecFinished):
        return SpecFinished(_without_output(event.result))
    if isinstance(event, RunFinished):
        results = tuple(map(_without_output, event.result.results))
        return RunFinished(replace(event.result, results=results))
    return event


def _without_output(result: RunResult) -> RunResult:
    return replace(result, output_bytes=b"")


def _show_plans(plans: Sequence[BuildPlan], *, as_json: bool, publishes: bool) -> None:
    found = []
    for plan in plans:
        requests = list(publish_requests(plan)) if publishes and not plan.problems else []
        if as_json:
            found.append({**plan.as_data(), **({"requests": requests} if publishes else {})})
            continue
        _show_plan(plan)
        for line in requests:
            click.echo(f"publish: {line}")
    if as_json:
        click.echo(json.dumps(found[0] if len(found) == 1 else found, indent=2))


def _show_plan(plan: BuildPlan) -> None:
    config = plan.context
    others = f", not {' or '.join(plan.others)}" if plan.others else ""
    click.echo(f"{config.project_dir}: {plan.type}{others} ({plan.why})")
    click.echo(f"{config.name} {config.version or '(no version)'} -> {config.output_dir}")
    click.echo(f"targets: {', '.join(map(str, plan.targets)) or 'for every platform'}")
    for part in plan.parts:
        click.echo(f"merges {part.directory}")
    for one in plan.builds:
        click.echo(f"build {one.name}: {one.type} in {one.context.project_dir} ({one.why})")
    for name, step in [(one.name, step) for one in plan.builds or (plan,) for step in one.steps]:
        click.echo(f"{name} {step.name}:".lstrip())
        if step.copy is not None:
            click.echo(f"  copy the sources to {step.copy}")
        for command in step.commands:
            click.echo(f"  {shlex.join(command.argv)}")
    for kind, commands in asdict(config.settings.hooks).items():
        for command in commands:
            click.echo(f"hooks.{kind}: {command.strip()}")
    rows = [("needs", "version", "where")]
    rows += [(tool.name, tool.version or "?", tool.path or "missing") for tool in plan.tools]
    rows += [(f"key: {key.signs}", "", key.description or "missing") for key in plan.keys]
    free, needed = plan.disk.free >> 20, plan.disk.needed >> 20
    rows.append(("disk", "", f"{free} MiB free at {plan.disk.path}, {needed} MiB needed"))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, version, where in rows:
        click.echo(f"{name:{first}}  {version:{second}}  {where}")


def _show_results(results: Sequence[tuple[BuildPlan, BuildResult]], *, as_json: bool) -> None:
    if as_json:
        found = [_result_data(plan, result) for plan, result in results]
        if found:
            click.echo(json.dumps(found[0] if len(found) == 1 else found, indent=2))
        return
    for _, result in results:
        for artifact in result.artifacts:
            click.echo(artifact.path)
        for path in result.documents:
            click.echo(str(path))


def _result_data(plan: BuildPlan, result: BuildResult) -> dict[str, Any]:
    return {
        "directory": str(result.directory),
        "type": str(plan.type),
        "name": plan.context.name,
        "version": plan.context.version,
        "artifacts": [asdict(one) for one in result.artifacts],
        "built": [asdict(one) for one in result.built],
        "documents": [str(path) for path in result.documents],
    }
