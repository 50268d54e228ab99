"""Filesystems as values: in memory, forked in no time, and with faults at any step."""

import pytest

from core_infra.medium import FaultyMedium, Medium, MemoryMedium, StorageError


def save(medium: Medium, text: str) -> None:
    """What is tested: it keeps one older version."""
    if medium.exists("notes.txt"):
        medium.rename("notes.txt", "notes.txt.old")
    medium.write_text("notes.txt", text)


def test_it_keeps_the_older_version(core_medium: MemoryMedium) -> None:
    save(core_medium, "one")
    save(core_medium, "two")
    assert core_medium.read_text("notes.txt.old") == "one"


def test_a_full_disk_loses_nothing(core_medium: MemoryMedium) -> None:
    save(core_medium, "one")
    for step in range(1, 6):
        disk = core_medium.fork()
        with pytest.raises(StorageError):
            save(FaultyMedium(disk, plan=f"{step}:ENOSPC"), "two")
        assert "one" in [disk.read_text(name) for name in disk.list(".")]
