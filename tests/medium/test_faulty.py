"""Faults come where they were planned, can be had again, and leave nothing half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.medium import (
    AccessDeniedError,
    FaultyMedium,
    LocalMedium,
    Medium,
    MemoryMedium,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPERATIONS: dict[str, Callable[[Medium], object]] = {
    "read_bytes": lambda m: m.read_bytes("f"),
    "write_bytes": lambda m: m.write_bytes("f", b"new"),
    "open": lambda m: m.open("f"),
    "create": lambda m: m.create("f"),
    "append": lambda m: m.append("f"),
    "stat": lambda m: m.stat("f"),
    "exists": lambda m: m.exists("f"),
    "list": lambda m: m.list("."),
    "ensure_dir": lambda m: m.ensure_dir("d"),
    "rename": lambda m: m.rename("f", "g"),
    "delete": lambda m: m.delete("f"),
    "delete_all": lambda m: m.delete_all("f"),
}


@pytest.fixture
def inner() -> MemoryMedium:
    medium = MemoryMedium()
    medium.write_bytes("f", b"old")
    return medium


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ("ENOSPC", StorageError, "No space left"),
        ("EIO", StorageError, "Input/output error"),
        ("EACCES", AccessDeniedError, "permission denied"),
        ("crash", StorageError, "the medium crashed at step 1"),
    ],
)
def test_every_operation_can_fail_and_then_does_nothing(
    inner: MemoryMedium, operation: str, fault: str, kind: type[CoreInfraError], text: str
) -> None:
    before = inner.fork()
    with pytest.raises(kind, match=text) as caught:
        OPERATIONS[operation](FaultyMedium(inner, plan=f"1:{fault}"))
    assert f"FaultyMedium(medium, plan='1:{fault}')" in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert not before.diff(inner)


def use(medium: Medium) -> None:
    """Something that writes, appends, moves and reads."""
    with medium.create("new") as writer:
        writer.write(b"n" * 100_000)
    with medium.append("f") as writer:
        writer.write(b"1234")
        writer.flush()
        writer.write(b"5678")
    medium.rename("new", "moved")
    with medium.open("moved") as reader:
        reader.read()
    medium.write_bytes("f", b"replaced")


@pytest.mark.parametrize("fault", ["ENOSPC", "EIO", "EACCES", "short", "crash"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_fault_at_each_step_in_turn_leaves_whole_versions(
    tmp_path: Path, fault: str, where: str
) -> None:
    step = 1
    while True:
        inner = MemoryMedium() if where == "memory" else LocalMedium(tmp_path / str(step))
        inner.write_bytes("f", b"old")
        faulty = FaultyMedium(inner, plan=f"{step}:{fault}")
        try:
            use(faulty)
        except CoreInfraError:
            assert faulty.replay.startswith(f"{step}:{fault}")
        else:
            break
        assert inner.read_bytes("f") in {b"old", b"old12", b"old1234", b"old123456", b"old12345678"}
        assert set(inner.list(".")) <= {"f", "new", "moved"}
        for name in set(inner.list(".")) - {"f"}:
            assert inner.read_bytes(name) == b"n" * 100_000
        step += 1
    assert step == faulty.steps + 1 > 10
    assert inner.read_bytes("f") == b"replaced"


def test_a_short_write_puts_half_and_then_has_no_space(inner: MemoryMedium) -> None:
    medium = FaultyMedium(inner, plan="2:short")
    writer = medium.append("f")
    writer.write(b"1234")
    with pytest.raises(StorageError, match="No space left"):
        writer.flush()
    assert inner.read_bytes("f") == b"old12"
    assert medium.replay == "2:short,3:ENOSPC"
    writer.close()  # the rest is still in the buffer
    assert inner.read_bytes("f") == b"old1234"


def test_after_a_crash_nothing_works_any_more(inner: MemoryMedium) -> None:
    medium = FaultyMedium(inner, plan="2:crash")
    medium.read_bytes("f")
    for operation in OPERATIONS.values():
        with pytest.raises(StorageError, match="crashed at step 2"):
            operation(medium)
    assert medium.replay == "2:crash"
    assert inner.read_bytes("f") == b"old"


def run(medium: FaultyMedium) -> list[str]:
    outcomes = []
    for _ in range(20):
        for name, operation in OPERATIONS.items():
            if name not in {"open", "create", "append", "rename", "delete", "delete_all"}:
                try:
                    operation(medium)
                    outcomes.append(name)
                except CoreInfraError as error:
                    outcomes.append(f"{type(error).__name__} {error.why}")
    return outcomes


def test_a_seed_fails_at_random_and_its_plan_does_so_again(inner: MemoryMedium) -> None:
    first = FaultyMedium(inner.fork(), seed=7)
    outcomes = run(first)
    assert run(FaultyMedium(inner.fork(), seed=7)) == outcomes
    assert run(FaultyMedium(inner.fork(), seed=8)) != outcomes
    assert run(FaultyMedium(inner.fork(), plan=first.replay)) == outcomes
    kinds = {fault.partition(":")[2] for fault in first.replay.split(",")}
    assert kinds == {"ENOSPC", "EIO", "EACCES", "short"}
    assert "ENOSPC" not in {outcome for outcome in outcomes if "list" in outcome}


def test_a_rate_of_one_fails_always(inner: MemoryMedium) -> None:
    medium = FaultyMedium(inner, seed=1, rate=1)
    for operation in OPERATIONS.values():
        with pytest.raises(CoreInfraError):
            operation(medium)


@pytest.mark.parametrize("plan", ["x", "1", "1:ENOENT", ":EIO", "-1:EIO", "1:EIO;2:EIO"])
def test_a_plan_of_another_form_is_refused(inner: MemoryMedium, plan: str) -> None:
    with pytest.raises(InvalidError, match="STEP:FAULT"):
        FaultyMedium(inner, plan=plan)


@pytest.mark.parametrize(
    ("plan", "why"), [("0:EIO", "STEP:FAULT"), ("2:EIO,2:ENOSPC", "step 2 is listed twice")]
)
def test_a_plan_that_could_not_be_kept_is_refused(plan: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        FaultyMedium(MemoryMedium(), plan=plan)


def test_a_plan_and_a_seed_are_not_mixed() -> None:
    with pytest.raises(InvalidError, match="Give one of them"):
        FaultyMedium(MemoryMedium(), plan="1:EIO", seed=3)
