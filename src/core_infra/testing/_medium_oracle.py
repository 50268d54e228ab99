"""Compares random operations on a medium with those on a MemoryMedium, the oracle."""

from __future__ import annotations

import contextlib
import posixpath
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from core_infra.errors import CoreInfraError
from core_infra.medium._memory import MemoryMedium
from core_infra.testing._medium_subject import described, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.medium._medium import Medium
    from core_infra.testing._medium_subject import Contract

_names = st.sampled_from(["a", "b", "ab"])
_plain = st.lists(_names, min_size=1, max_size=3).map("/".join)
# Unusual forms of the same few paths; none leads above the root.
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
_modes = st.none() | st.integers(0o600, 0o777)  # the owner must be able to read it on a real disk


def compare(contract: Contract) -> None:
    """Try ``contract.examples`` sequences; raise AssertionError at the first different result."""
    machine = type("Media", (_Media,), {"contract": contract})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=contract.examples,
            stateful_step_count=20,
            deadline=None,
            phases=(Phase.reuse, Phase.generate),  # _shortest shortens faster
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),  # a slow medium may be correct
        ),
    )


class _Step(NamedTuple):
    text: str
    operation: Callable[[Medium], Any]


class _Media(RuleBasedStateMachine):
    contract: Contract

    def __init__(self) -> None:
        super().__init__()
        self.medium = self.contract.make_medium()
        self.oracle = MemoryMedium()
        self.steps: list[_Step] = []

    def both(self, text: str, operation: Callable[[Medium], Any]) -> None:
        step = _Step(text, operation)
        self.steps.append(step)
        difference = _difference(self.contract, step, self.medium, self.oracle)
        if difference:
            steps, difference = _shortest(self.contract, self.steps, difference)
            history = "".join(f"\n    {step.text}" for step in steps[:-1])
            raise AssertionError(f"{difference}\n  after:{history}" if history else difference)

    @rule(path=_paths, data=_data, mode=_modes)
    def write_bytes(self, path: str, data: bytes, mode: int | None) -> None:
        self.both(
            f"write_bytes({short(path)}, {data!r}{_mode_argument(mode)})",
            lambda medium: medium.write_bytes(path, data, mode=mode),
        )

    @rule(path=_paths, data=_data, mode=_modes, whole=st.booleans())
    def create(self, path: str, data: bytes, mode: int | None, *, whole: bool) -> None:
        def operation(medium: Medium) -> None:
            with contextlib.suppress(KeyError), medium.create(path, mode=mode) as writer:
                writer.write(data)
                if not whole:
                    raise KeyError

        end = "close it" if whole else "leave the block by an exception"
        self.both(f"create({short(path)}{_mode_argument(mode)}), write {data!r}, {end}:", operation)

    @rule(path=_paths, data=_data)
    def append(self, path: str, data: bytes) -> None:
        def operation(medium: Medium) -> None:
            with medium.append(path) as writer:
                writer.write(data)

        self.both(f"append({short(path)}), write {data!r}:", operation)

    @rule(path=_paths)
    def read(self, path: str) -> None:
        def operation(medium: Medium) -> bytes:
            with medium.open(path) as reader:
                return reader.read()

        self.both(f"open({short(path)}).read()", operation)
        self.both(f"read_bytes({short(path)})", lambda medium: medium.read_bytes(path))
        self.both(f"read_text({short(path)})", lambda medium: medium.read_text(path))

    @rule(path=_paths)
    def look(self, path: str) -> None:
        self.both(f"stat({short(path)})", lambda medium: self.described(medium, path))
        self.both(f"list({short(path)})", lambda medium: medium.list(path))
        self.both(f"exists({short(path)})", lambda medium: medium.exists(path))
        self.both(f"is_file({short(path)})", lambda medium: medium.is_file(path))
        self.both(f"is_dir({short(path)})", lambda medium: medium.is_dir(path))

    @rule(path=_paths)
    def ensure_dir(self, path: str) -> None:
        self.both(f"ensure_dir({short(path)})", lambda medium: medium.ensure_dir(path))

    @rule(old=_paths, new=_paths)
    def rename(self, old: str, new: str) -> None:
        self.both(f"rename({short(old)}, {short(new)})", lambda medium: medium.rename(old, new))

    @rule(path=_paths)
    def delete(self, path: str) -> None:
        self.both(f"delete({short(path)})", lambda medium: medium.delete(path))

    @rule(path=_paths)
    def delete_all(self, path: str) -> None:
        self.both(f"delete_all({short(path)})", lambda medium: medium.delete_all(path))

    @invariant()
    def same_tree(self) -> None:
        self.both("the tree", self.tree)
        self.steps.pop()  # it changes nothing

    def tree(self, medium: Medium, path: str = ".") -> dict[str, str]:
        found = {path: self.described(medium, path)}
        if medium.is_dir(path):
            for name in medium.list(path):
                found |= self.tree(medium, name if path == "." else f"{path}/{name}")
        else:
            found[path] += f", with {medium.read_bytes(path)!r} in it"
        return found

    def described(self, medium: Medium, path: str) -> str:
        info = medium.stat(path)
        text = "a directory" if info.is_dir else "a file"
        if info.name != (posixpath.basename(posixpath.normpath(path)) or "."):
            text += f" that is named {short(info.name)}"
        text += f" of {info.size} bytes"
        if (
            self.contract.modes and info.name != "."
        ):  # the root has the mode that its creator gave it
            text += f" and mode {info.mode:o}"
        return text


def _mode_argument(mode: int | None) -> str:
    return "" if mode is None else f", mode=0o{mode:o}"


def _shortest(contract: Contract, steps: list[_Step], difference: str) -> tuple[list[_Step], str]:
    """Remove each step that the failure of the last one does not need.

    Hypothesis would simplify the arguments as well, but take minutes.
    """
    for leave_out in reversed(range(-1, len(steps) - 1)):
        fewer = [step for number, step in enumerate(steps) if number != leave_out]
        medium, oracle = contract.make_medium(), MemoryMedium()
        found = [_difference(contract, step, medium, oracle) for step in fewer]
        if found[-1]:
            steps, difference = fewer, found[-1]
    return steps, difference


def _difference(contract: Contract, step: _Step, medium: Medium, oracle: Medium) -> str:
    """Perform a step on both; return the difference as text, empty if there is none."""
    expected, found = _outcome(step.operation, oracle), _outcome(step.operation, medium)
    if isinstance(expected, CoreInfraError):
        return _difference_to_error(contract, step.text, expected, found)
    if isinstance(found, Exception):
        return f"{step.text} must work, but raised {described(found)}"
    if found == expected and isinstance(found, type(expected)):
        return ""
    if isinstance(expected, dict):
        return "\n".join(
            f"{short(path)} must be {expected.get(path, 'missing')}, "
            f"but is {found.get(path, 'missing')}"
            for path in sorted({*expected, *found})
            if expected.get(path) != found.get(path)
        )
    return f"{step.text} must give {short(expected)}, but gave {short(found)}"


def _difference_to_error(
    contract: Contract, call: str, expected: CoreInfraError, found: object
) -> str:
    must = f"{call} must raise {type(expected).__name__}"
    if not isinstance(found, Exception):
        return f"{must}, but gave {short(found)}"
    if not (isinstance(found, CoreInfraError) and isinstance(found, type(expected))):
        return f"{must}, but raised {described(found)}"
    if found.facts.get("path") != expected.path:
        return (
            f"the error of {call} must have path={short(expected.path)}, as it was given, "
            f"but has path={short(found.facts.get('path'))}"
        )
    if contract.reasons and _reasons(found) != _reasons(expected):
        return f"{must} for {_reasons(expected)}, but it was for {_reasons(found)}"
    return ""


def _outcome(operation: Callable[[Medium], Any], medium: Medium) -> Any:
    try:
        return operation(medium)
    except Exception as error:  # noqa: BLE001 - an error is a result, too
        return error


def _reasons(error: CoreInfraError) -> object:
    return error.why, error.todo, error.facts.get("errno")
