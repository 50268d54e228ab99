"""The dependencies between specs, checked before anything runs."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple

from core_infra._wording import similar
from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from core_infra.process._runner.spec import RunSpec


_MAX_CYCLES = 20
_MAX_SHOWN = 20
"""Names of one cycle."""


class InvalidGraphError(InvalidError):
    """Specs cannot be run together.

    Attributes:
        mistakes: all of them, one sentence each.
    """


class Mistake(NamedTuple):
    """One mistake: the number of its spec, the field, and the text."""

    spec: int
    field: str
    text: str


class Graph:
    """The specs, by name, in an order in which they could run one after another.

    Args:
        specs: the specs.
        pools: the number of places of each pool.
        after: for each spec what it waits for, instead of its own ``after``.

    Attributes:
        specs: by name, in the given order.
        after: for each name, the names that it waits for.
        dependents: for each name, the names that wait for it.
        order: all names, each after those that it waits for.

    Raises:
        InvalidGraphError: a name is given twice, a dependency or pool is missing, a pool has no
            place, or there is a cycle; a cycle is reported only if all else is right.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        pools: Mapping[str, int],
        after: Sequence[Sequence[str]] | None = None,
    ) -> None:
        after = [spec.after for spec in specs] if after is None else after
        if found := [mistake.text for mistake in mistakes(specs, pools, after)]:
            raise InvalidGraphError(
                "these specs cannot be run together",
                why=listed(found),
                mistakes=found,
            )
        self.specs = {spec.name: spec for spec in specs}
        self.after = {
            spec.name: frozenset(needed) for spec, needed in zip(specs, after, strict=True)
        }
        self.dependents: dict[str, list[str]] = {name: [] for name in self.specs}
        for name, needed in self.after.items():
            for other in needed:
                self.dependents[other].append(name)
        self.order = list(TopologicalSorter(self.after).static_order())

    def upstream(self, names: Collection[str]) -> list[RunSpec]:
        """The named specs and all that they wait for, in the given order.

        Raises:
            InvalidGraphError: no spec has one of the names.
        """
        wanted: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in self.specs:
                text = f"there is no {name!r}{similar(name, self.specs)}"
                raise InvalidGraphError("cannot run these specs", why=text, mistakes=[text])
            if name not in wanted:
                wanted.add(name)
                todo += self.after[name]
        return [spec for name, spec in self.specs.items() if name in wanted]

    def expected(self, durations: Mapping[str, float]) -> dict[str, float]:
        """The expected seconds of each spec.

        Args:
            durations: the known seconds. The others are expected to take the median of these, so
                that they are neither always first nor always last.
        """
        known = sorted(durations[name] for name in self.specs if name in durations)
        usual = known[len(known) // 2] if known else 1.0
        return {name: durations.get(name, usual) for name in self.specs}

    def path_lengths(self, durations: Mapping[str, float]) -> dict[str, float]:
        """For each spec, the seconds from its start to the end of the longest path through it.

        Args:
            durations: the known seconds.
        """
        expected = self.expected(durations)
        lengths: dict[str, float] = {}
        for name in reversed(self.order):
            rest = max((lengths[other] for other in self.dependents[name]), default=0.0)
            lengths[name] = expected[name] + rest
        return lengths


def mistakes(
    specs: Sequence[RunSpec], pools: Mapping[str, int], after: Sequence[Sequence[str]]
) -> list[Mistake]:
    """All mistakes between the specs; cycles only if there are no others."""
    found = [*_wrong_names(specs, after), *_wrong_pools(specs, pools)]
    return found or list(_cycles([spec.name for spec in specs], after))


def check_apart(one: Graph, other: Graph) -> None:
    """Raise InvalidGraphError if two specs of different graphs have the same name."""
    if found := [f"two specs are named {name!r}" for name in other.specs if name in one.specs]:
        raise InvalidGraphError(
            "these specs cannot be run together", why=listed(found), mistakes=found
        )


def listed(found: Sequence[str]) -> str:
    """Format mistakes for an error."""
    if len(found) == 1:
        return found[0]
    return "\n  ".join([f"{len(found)} mistakes", *found])


def _wrong_names(specs: Sequence[RunSpec], after: Sequence[Sequence[str]]) -> Iterator[Mistake]:
    names = {spec.name for spec in specs}
    seen: set[str] = set()
    for number, spec in enumerate(specs):
        if spec.name in seen:
            yield Mistake(number, "name", f"two specs are named {spec.name!r}")
        seen.add(spec.name)
        for needed in after[number]:
            if needed not in names:
                text = f"{spec.name!r} is to run after {needed!r}, which is not there"
                yield Mistake(number, "after", text + similar(needed, names))


def _wrong_pools(specs: Sequence[RunSpec], pools: Mapping[str, int]) -> Iterator[Mistake]:
    for number, spec in enumerate(specs):
        for pool in spec.pools:
            if pool not in pools:
                text = f"{spec.name!r} runs in the pool {pool!r}, which is not there"
                yield Mistake(number, "pools", text + similar(pool, pools))
            elif not isinstance(pools[pool], int) or pools[pool] < 1:
                text = f"{spec.name!r} runs in the pool {pool!r}, which has {pools[pool]!r} places"
                yield Mistake(number, "pools", text)


def _cycles(names: Sequence[str], after: Sequence[Sequence[str]]) -> Iterator[Mistake]:
    left = {name: {*needed} for name, needed in zip(names, after, strict=True)}
    for _ in range(_MAX_CYCLES):
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            path: list[str] = error.args[1]  # each is followed by one that waits for it
            # Reported from the first given spec on, in the direction of "after".
            ring = path[:0:-1]
            first = next(number for number, name in enumerate(names) if name in ring)
            turn = ring.index(names[first])
            ring = [*ring[turn:], *ring[:turn]]
            left[ring[0]].discard(ring[1 % len(ring)])  # so that the next one is found
            shown = ring if len(ring) <= _MAX_SHOWN else [*ring[: _MAX_SHOWN - 1], "…", ring[-1]]
            text = " -> ".join([*shown, ring[0]])
            yield Mistake(
                first, "after", f"{text}: each is to run after the next, so none can start"
            )
        else:
            return
