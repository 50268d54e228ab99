"""Copied, deeply copied and pickled media."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError
from core_infra.medium import FakeMedium, FaultyMedium, LocalMedium, Medium, MemoryMedium

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def pickled(medium: Medium) -> Medium:
    found: Medium = pickle.loads(pickle.dumps(medium))  # noqa: S301 - our own
    return found


def change(medium: Medium) -> Medium:
    medium.write_text("d/f", "changed")
    medium.write_text("new", "x")
    return medium


@pytest.mark.parametrize(
    ("duplicate", "wrapper"),
    [
        (copy.copy, MemoryMedium.fork),
        (copy.deepcopy, MemoryMedium.fork),
        (pickled, MemoryMedium.fork),
        (copy.deepcopy, FaultyMedium),
        (pickled, FaultyMedium),
    ],
)
def test_a_tree_in_memory_is_copied_as_it_is(
    duplicate: Callable[[Medium], Medium], wrapper: Callable[[MemoryMedium], Medium]
) -> None:
    memory = MemoryMedium()
    memory.write_text("d/f", "old", mode=0o750)
    memory.ensure_dir("empty")
    memory.link("link", "d/f")
    with memory.append("log") as log:
        log.write(b"first")
        log.flush()
        other = duplicate(wrapper(memory))
        log.write(b" second")
    assert other.read_text("log") == "first"
    assert (other.read_text("link"), other.stat("d/f").mode) == ("old", 0o750)
    with other.append("log") as log:
        log.write(b" other")
    change(other)
    assert memory.read_text("d/f") == "old"
    assert memory.list(".") == ["d", "empty", "link", "log"]
    assert (memory.read_text("log"), other.read_text("log")) == ("first second", "first other")


CHANGE = """
import pickle, sys
medium = pickle.load(sys.stdin.buffer)
medium.write_text("d/f", "changed")
medium.write_text("new", "x")
pickle.dump(medium, sys.stdout.buffer)
"""


def test_a_tree_in_memory_goes_to_another_process_and_comes_back() -> None:
    memory = MemoryMedium()
    memory.write_text("d/f", "old")
    argv = [sys.executable, "-c", CHANGE]
    done = subprocess.run(argv, input=pickle.dumps(memory), stdout=subprocess.PIPE, check=True)
    back = pickle.loads(done.stdout)  # noqa: S301 - our own
    assert isinstance(back, MemoryMedium)
    assert str(memory.diff(back)).splitlines()[0] == "~ d/f (3 → 7 bytes)"
    assert memory.diff(back).added == ("new",)


def test_what_lives_in_this_process_only_is_refused_in_a_sentence() -> None:
    medium = FakeMedium()
    medium.write_text("f", "x")
    for duplicate in (pickled, copy.deepcopy):
        with pytest.raises(InvalidError, match=r"cannot pickle a FakeMedium: .* this process"):
            duplicate(medium)
    assert copy.copy(medium).read_text("f") == "x"


def test_a_local_medium_is_the_same_directory(tmp_path: Path) -> None:
    pickled(LocalMedium(tmp_path)).write_text("f", "x")
    assert (tmp_path / "f").read_text() == "x"
