"""What the documents of a release say of how it was made: inputs, tools, contained packages."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from core_infra.build._builders.sources import history_of, sources_of
from core_infra.build._documents.contained import contained, image_sources
from core_infra.build._documents.lock_files.dependency import Dependency
from core_infra.build._documents.origin import commit_source, sources_uri
from core_infra.build._documents.provenance import Source
from core_infra.build._plan import Goal
from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from core_infra.build._artifact import Artifact
    from core_infra.build._part import Part
    from core_infra.build._plan import BuildPlan


@dataclass(frozen=True, slots=True)
class Account:
    """What the documents say of one build, or of a part of it.

    Attributes:
        parameters: what determines the build.
        sources: what it is made of.
        tools: the versions of the tools, by name.
        dependencies: the packages that it contains.
        unread: why the dependencies may be incomplete, one sentence each.
        started: when it started, in seconds since 1970.
    """

    parameters: Mapping[str, Any]
    sources: tuple[Source, ...]
    tools: Mapping[str, str]
    dependencies: tuple[Dependency, ...] = ()
    unread: tuple[str, ...] = ()
    started: int = 0

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Account:
        """Read what :meth:`as_data` returned.

        Raises:
            ValueError, LookupError, TypeError: it is something else.
        """
        return cls(
            parameters=dict(data["parameters"]),
            sources=tuple(Source(str(one["uri"]), dict(one["digest"])) for one in data["sources"]),
            tools={str(name): str(version) for name, version in data["tools"].items()},
            dependencies=tuple(Dependency(*map(str, one)) for one in data["dependencies"]),
            unread=tuple(map(str, data["unread"])),
            started=int(data["started"]),
        )


def account_of(plan: BuildPlan, built: Sequence[Artifact], started: float) -> Account:
    """What the documents say of a build.

    Args:
        plan: its plan.
        built: what the builder made, before it was archived.
        started: the time when the build started, in seconds since 1970.

    Raises:
        CoreInfraError: the sources or a lock file cannot be read.
    """
    found = Account(
        build_parameters(plan),
        tuple(build_sources(plan)),
        {tool.name: tool.version for tool in plan.tools},
        started=int(started),
    )
    if plan.goal is not Goal.RELEASE:
        return found
    dependencies, unread = contained(plan, built)
    return replace(
        found,
        sources=(*found.sources, *image_sources(built)),
        dependencies=tuple(dependencies),
        unread=tuple(unread),
    )


def joined(accounts: Iterable[Account]) -> Account:
    """The account of one build whose parts were made apart, each for some of the targets."""
    every = list(accounts)
    targets = dict.fromkeys(name for one in every for name in one.parameters["targets"])
    return Account(
        {**every[0].parameters, "targets": list(targets)},
        tuple({one.uri + str(one.digest): one for it in every for one in it.sources}.values()),
        _versions(every),
        tuple(sorted({one for it in every for one in it.dependencies})),
        tuple(dict.fromkeys(one for it in every for one in it.unread)),
        min(one.started for one in every),
    )


def summed(plan: BuildPlan, accounts: Mapping[str, Account]) -> Account:
    """The account of a release of several builds.

    Args:
        plan: the plan of the release.
        accounts: those of its builds, by their names.
    """
    if set(accounts) == {""}:
        return accounts[""]
    context, every = plan.context, list(accounts.values())
    parameters = {
        "name": context.name,
        "version": context.version,
        "builds": [{"build": name, **one.parameters} for name, one in accounts.items()],
    }
    return replace(
        joined([replace(one, parameters={"targets": []}) for one in every]), parameters=parameters
    )


def expected(plan: BuildPlan) -> tuple[Mapping[str, Any], tuple[Source, ...]]:
    """The parameters and the sources of the release that a plan makes, before it is made."""
    if plan.parts:
        found = summed(plan, accounts_of_parts(plan))
    else:
        builds = plan.builds or (plan,)
        found = summed(
            plan,
            {
                one.name if plan.builds else "": Account(
                    build_parameters(one), tuple(build_sources(one)), {}
                )
                for one in builds
            },
        )
    return found.parameters, found.sources


def accounts_of_parts(plan: BuildPlan) -> dict[str, Account]:
    """The accounts of the builds of a release that is merged from parts, by their names.

    Raises:
        InvalidError: a part has a malformed one.
    """
    found: dict[str, Account] = {}
    for name, units in plan.parts[0].whole.items():
        accounts = [_account(part, name) for part in plan.parts if name in part.accounts]
        if accounts:
            # In the order of the targets, in whichever order the parts are given.
            accounts.sort(key=lambda one: [_place(units, it) for it in one.parameters["targets"]])
            found[name] = joined(accounts)
    return found


def _account(part: Part, name: str) -> Account:
    try:
        return Account.of_data(part.accounts[name])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidError(
            f"{part.directory} is not a part of a release",
            why=f"the description of its build is malformed: {error}",
            path=str(part.directory),
        ) from error


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _versions(accounts: Sequence[Account]) -> dict[str, str]:
    """The versions of tools; parts that were made on several hosts may have several."""
    found: dict[str, dict[str, None]] = {}
    for one in accounts:
        for name, version in one.tools.items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(versions) for name, versions in found.items()}


def build_parameters(plan: BuildPlan) -> dict[str, object]:
    """What determines a build, for its provenance."""
    context, settings = plan.context, plan.context.settings.build
    history = history_of(context)
    hooks = asdict(context.settings.hooks)
    uncommitted = [*history.changed, *history.untracked]
    return {
        "type": str(plan.type),
        "name": context.name,
        "version": context.version,
        "targets": [str(target) for target in plan.targets],
        "cgo": settings.cgo,
        "flags": list(settings.flags),
        "ldflags": list(settings.ldflags),
        # Only names: the values may be secret.
        "env": [line.partition("=")[0] for line in settings.env],
        "packing": [str(plan.packing.format), str(plan.packing.profile)],
        **({"hooks": hooks} if any(hooks.values()) else {}),
        **({"snapshot": True} if plan.snapshot else {}),
        **({"uncommitted": uncommitted} if uncommitted else {}),
    }


def build_sources(plan: BuildPlan) -> list[Source]:
    """What a build is made of, for its provenance."""
    context = plan.context
    digest = sources_of(plan.builder, context, plan.targets).digest
    return [
        Source(sources_uri(context.name), {"sha256": digest}),
        *commit_source(history_of(context)),
    ]
