"""Looks at each repository of a configuration, and reports what would not work."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from core_infra._wording import count
from core_infra.errors import CoreInfraError
from core_infra.jobrunner._logging import describe_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core_infra.jobrunner._forges.forge import Rights
    from core_infra.jobrunner._handlers.forge import EnableAutoMerge
    from core_infra.jobrunner._interfaces import JobHandler
    from core_infra.jobrunner._sources.epics import EpicSource


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        source: the name of the source.
        text: what was found.
        is_wrong: whether it must be mended.
    """

    source: str
    text: str
    is_wrong: bool = False


def check_sources(
    sources: Iterable[EpicSource], handlers: Sequence[JobHandler]
) -> Iterator[Finding]:
    """Look at each repository; a failure is a finding."""
    for source in sources:
        mine = [one for one in handlers if source.name in (getattr(one, "sources", None) or ())]
        try:
            yield from _check(source, mine)
        except CoreInfraError as error:
            yield Finding(source.name, describe_error(error), is_wrong=True)


def _check(source: EpicSource, handlers: Sequence[JobHandler]) -> Iterator[Finding]:
    from core_infra.jobrunner._handlers.forge import EnableAutoMerge  # noqa: PLC0415 - an extra

    merges = [one for one in handlers if isinstance(one, EnableAutoMerge)]
    yield from _check_rights(source, source.rights(), handlers, merges)
    signals = list(source.poll())
    epics = source.epics
    found = count(epics, "epic")
    text = f"{found} with the label {source.label!r}, {count(len(signals), 'signal')}"
    yield Finding(source.name, text, is_wrong=not epics)
    for limit in source.limits:
        points = count(limit.points, "point")
        text = f"{limit.remaining} of {points} of {limit.resource} are left"
        yield Finding(source.name, f"{text} until {limit.resets_at:%H:%M} UTC")
    for signal in signals:
        for merge in merges:
            if signal.pr_state == "OPEN":
                why = "; ".join(merge.rules.obstacles(signal)) or "nothing: it would be merged"
                yield Finding(source.name, f"{signal.item} waits for: {why}")


def _check_rights(
    source: EpicSource,
    rights: Rights,
    handlers: Sequence[JobHandler],
    merges: Sequence[EnableAutoMerge],
) -> Iterator[Finding]:
    needs = bool(handlers)
    yield Finding(
        source.name,
        "the token may write" if rights.may_write else "the token may not write, or it is archived",
        is_wrong=needs and not rights.may_write,
    )
    for merge in merges:
        method = merge.rules.method
        is_allowed = method == "queue" or method in rights.methods
        allowed = ", ".join(rights.methods) or "none"
        yield Finding(
            source.name, f"merge by {method}; allowed: {allowed}", is_wrong=not is_allowed
        )
        missing = sorted(set(merge.rules.checks) - set(rights.required_checks))
        if rights.required_checks:
            known = ", ".join(rights.required_checks)
            yield Finding(source.name, f"{rights.branch} requires the checks {known}")
        elif not merge.rules.checks:
            yield Finding(
                source.name,
                f"{rights.branch} requires no checks, and merge: names none: a pull request whose"
                " slow checks have not begun may be merged",
            )
        if missing:
            yield Finding(source.name, f"only this bot requires the checks {', '.join(missing)}")
