"""Random operations on a medium and on the one in memory, which is the oracle."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from core_infra.errors import CoreInfraError
from core_infra.medium.memory import MemoryMedium

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.medium.medium import Medium
    from core_infra.testing.contract import Contract

_names = st.sampled_from(["a", "b", "ab"])
_plain = st.lists(_names, min_size=1, max_size=3).map("/".join)
# Strange forms of the same few paths; none of them climbs out of the root.
_strange = st.one_of(
    _plain.map("./{}".format),
    _plain.map("{}/".format),
    _plain.map("{}/.".format),
    _plain.map("{}/..".format),
    st.tuples(_plain, _names).map("/../".join),
    st.tuples(_plain, _names).map("//".join),
    st.sampled_from([".", "", "a\0", "é", "..a", "a/" + "n" * 256]),
)
_paths = st.one_of(_plain, _plain, _plain, _strange)
_data = st.binary(max_size=8)
_modes = st.none() | st.integers(0, 0o777)


def compare(contract: Contract) -> None:
    """Try ``contract.examples`` sequences; raise AssertionError at the first different answer."""
    machine = type("Media", (_Media,), {"contract": contract})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=contract.examples,
            stateful_step_count=20,
            deadline=None,
            phases=(Phase.reuse, Phase.generate),  # we shorten faster, see _shortest
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),  # a slow medium may be right
        ),
    )


class _Step(NamedTuple):
    told: str
    operation: Callable[[Medium], Any]


class _Media(RuleBasedStateMachine):
    contract: Contract

    def __init__(self) -> None:
        super().__init__()
        self.medium = self.contract.make_medium()
        self.oracle = MemoryMedium()
        self.steps: list[_Step] = []

    def both(self, told: str, operation: Callable[[Medium], Any]) -> None:
        step = _Step(told, operation)
        self.steps.append(step)
        difference = _difference(self.contract, step, self.medium, self.oracle)
        if difference:
            steps, difference = _shortest(self.contract, self.steps, difference)
            history = "".join(f"\n    {step.told}" for step in steps[:-1])
            raise AssertionError(f"{difference}\n  after:{history}" if history else difference)

    @rule(path=_paths, data=_data, mode=_modes)
    def write_bytes(self, path: str, data: bytes, mode: int | None) -> None:
        self.both(
            f"write_bytes({path!r})", lambda medium: medium.write_bytes(path, data, mode=mode)
        )

    @rule(path=_paths, data=_data, mode=_modes, whole=st.booleans())
    def create(self, path: str, data: bytes, mode: int | None, *, whole: bool) -> None:
        def operation(medium: Medium) -> None:
            with contextlib.suppress(KeyError), medium.create(path, mode=mode) as writer:
                writer.write(data)
                if not whole:
                    raise KeyError

        self.both(f"create({path!r}), written and {'closed' if whole else 'failed'},", operation)

    @rule(path=_paths, data=_data)
    def append(self, path: str, data: bytes) -> None:
        def operation(medium: Medium) -> None:
            with medium.append(path) as writer:
                writer.write(data)

        self.both(f"append({path!r})", operation)

    @rule(path=_paths)
    def read(self, path: str) -> None:
        def operation(medium: Medium) -> bytes:
            with medium.open(path) as reader:
                return reader.read()

        self.both(f"open({path!r}).read()", operation)
        self.both(f"read_bytes({path!r})", lambda medium: medium.read_bytes(path))
        self.both(f"read_text({path!r})", lambda medium: medium.read_text(path))

    @rule(path=_paths)
    def look(self, path: str) -> None:
        self.both(f"stat({path!r})", lambda medium: self.stat(medium, path))
        self.both(f"list({path!r})", lambda medium: medium.list(path))
        self.both(f"exists({path!r})", lambda medium: medium.exists(path))
        self.both(f"is_file({path!r})", lambda medium: medium.is_file(path))
        self.both(f"is_dir({path!r})", lambda medium: medium.is_dir(path))

    @rule(path=_paths)
    def ensure_dir(self, path: str) -> None:
        self.both(f"ensure_dir({path!r})", lambda medium: medium.ensure_dir(path))

    @rule(old=_paths, new=_paths)
    def rename(self, old: str, new: str) -> None:
        self.both(f"rename({old!r}, {new!r})", lambda medium: medium.rename(old, new))

    @rule(path=_paths)
    def delete(self, path: str) -> None:
        self.both(f"delete({path!r})", lambda medium: medium.delete(path))

    @rule(path=_paths)
    def delete_all(self, path: str) -> None:
        self.both(f"delete_all({path!r})", lambda medium: medium.delete_all(path))

    @invariant()
    def same_tree(self) -> None:
        self.both("the tree", self.tree)
        self.steps.pop()  # it changes nothing

    def stat(self, medium: Medium, path: str) -> object:
        info = medium.stat(path)
        is_root = info.name == "."  # whose mode is whatever its maker gave it
        mode = info.mode if self.contract.modes and not is_root else None
        return info.name, info.size, mode, info.is_dir

    def tree(self, medium: Medium, path: str = ".") -> dict[str, Any]:
        found: dict[str, Any] = {path: self.stat(medium, path)}
        if medium.is_dir(path):
            for name in medium.list(path):
                found |= self.tree(medium, f"{path}/{name}")
        else:
            found[path] = found[path], medium.read_bytes(path)
        return found


def _shortest(contract: Contract, steps: list[_Step], difference: str) -> tuple[list[_Step], str]:
    """Leave out each step without which the last one still fails.

    Hypothesis would do the same with steps of fewer and simpler arguments too, in minutes.
    """
    for leave_out in reversed(range(-1, len(steps) - 1)):
        fewer = [step for number, step in enumerate(steps) if number != leave_out]
        medium, oracle = contract.make_medium(), MemoryMedium()
        found = [_difference(contract, step, medium, oracle) for step in fewer]
        if found[-1]:
            steps, difference = fewer, found[-1]
    return steps, difference


def _difference(contract: Contract, step: _Step, medium: Medium, oracle: Medium) -> str:
    """Take a step in both; tell what is different, nothing if nothing is."""
    expected, found = _outcome(step.operation, oracle), _outcome(step.operation, medium)
    if isinstance(expected, CoreInfraError) and isinstance(found, CoreInfraError):
        alike = isinstance(found, type(expected)) and found.path == expected.path
        if contract.reasons:
            alike = alike and _reasons(found) == _reasons(expected)
    else:
        alike = found == expected
    return "" if alike else f"{step.told} must give {expected!r}, but gave {found!r}"


def _outcome(operation: Callable[[Medium], Any], medium: Medium) -> Any:
    try:
        return operation(medium)
    except Exception as error:  # noqa: BLE001 - an answer like any other
        return error


def _reasons(error: CoreInfraError) -> object:
    return error.why, error.todo, error.facts.get("errno")
