"""A crash of the machine at any moment leaves the old file or the new one.

The system calls of real writes are recorded, and each prefix of them is replayed on the model of
a pessimistic disk.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.medium import LocalMedium, SandboxMedium
from core_infra.medium._paths import RESERVED
from core_infra.medium._real_file import RealFile
from disk_model import Call, Disk, Names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.medium._real import RealMedium

OLD, NEW = b"old content", b"the new content, which is longer"


class Recorder:
    """Listens to the system calls that change something beneath a directory."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root.stat().st_ino
        self.calls: list[Call] = []
        for name in ("open", "mkdir", "replace", "rename", "unlink", "fsync"):
            self.listen(name, monkeypatch)
        write = RealFile.write

        def recorded_write(file: RealFile, data: Any) -> int:
            written = write(file, data)
            self.calls.append(Call("write", self.inode(file.fileno()), (bytes(data)[:written],)))
            return written

        monkeypatch.setattr(RealFile, "write", recorded_write)

    def inode(self, fd: int) -> int:
        found = os.fstat(fd).st_ino
        return 0 if found == self.root else found

    def listen(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real: Callable[..., Any] = getattr(os, name)
        told: Callable[..., None] = getattr(self, f"on_{name}")

        def recorded(*args: Any, **options: Any) -> Any:
            result = real(*args, **options)
            told(result, *args, **options)
            return result

        monkeypatch.setattr(os, name, recorded)

    def on_open(
        self, fd: int, path: str, flags: int, mode: int = 0, *, dir_fd: int | None = None
    ) -> None:
        del mode
        if flags & os.O_CREAT and dir_fd is not None:
            self.calls.append(Call("create", self.inode(fd), (self.inode(dir_fd), path)))

    def on_mkdir(self, _: None, path: str, *, dir_fd: int) -> None:
        inode = os.stat(path, dir_fd=dir_fd).st_ino
        self.calls.append(Call("mkdir", inode, (self.inode(dir_fd), path)))

    def on_replace(self, _: None, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        assert self.inode(src_dir_fd) == self.inode(dst_dir_fd)
        self.calls.append(Call("rename", self.inode(src_dir_fd), (old, new)))

    on_rename = on_replace

    def on_unlink(self, _: None, path: str, *, dir_fd: int) -> None:
        self.calls.append(Call("unlink", self.inode(dir_fd), (path,)))

    def on_fsync(self, _: None, fd: int) -> None:
        self.calls.append(Call("sync", self.inode(fd)))


class Recorded:
    """One write and what was there before."""

    def __init__(self, medium: RealMedium, root: Path, path: str, *, replace: bool) -> None:
        self.path = path
        self.names: Names = {}
        self.contents: dict[int, bytes] = {}
        if replace:
            medium.write_bytes(path, OLD)
            above, place = 0, root
            for name in path.split("/"):
                place /= name
                inode = place.stat().st_ino
                self.names[above, name] = inode
                above = inode
            self.contents[above] = OLD
        with pytest.MonkeyPatch.context() as monkeypatch:
            recorder = Recorder(root, monkeypatch)
            medium.write_bytes(path, NEW)
        self.calls = recorder.calls
        self.allowed = {OLD} if replace else {None}

    def violations(self, calls: list[Call]) -> list[str]:
        """Crash after each prefix of the calls; tell each state that must not be."""
        found = []
        for end in range(len(calls) + 1):
            disk = Disk(self.names, self.contents)
            for call in calls[:end]:
                disk.call(call)
            allowed = {NEW} if end == len(calls) else {NEW, *self.allowed}
            for state in disk.states():
                files = {path for path, data in state.items() if data is not None}
                visible = {path for path in files if RESERVED not in path}
                if state.get(self.path) not in allowed or not visible <= {self.path}:
                    found.append(f"after {calls[:end]}: {state}")
        return found


@pytest.fixture(params=["local", "sandbox"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> RealMedium:
    return LocalMedium(tmp_path) if request.param == "local" else SandboxMedium(tmp_path)


@pytest.mark.parametrize("path", ["f", "d/e/f"])
@pytest.mark.parametrize("replace", [True, False], ids=["replace", "new"])
def test_a_crash_at_any_moment_leaves_old_or_new_and_afterwards_new(
    tmp_path: Path, medium: RealMedium, path: str, *, replace: bool
) -> None:
    recorded = Recorded(medium, tmp_path, path, replace=replace)
    assert [call.what for call in recorded.calls if call.what not in {"mkdir", "sync"}] == [
        "create",
        "write",
        "rename",
    ]
    assert recorded.violations(recorded.calls) == []


@pytest.mark.parametrize("path", ["f", "d/e/f"])
@pytest.mark.parametrize("replace", [True, False], ids=["replace", "new"])
def test_no_sync_of_a_write_can_be_left_out(
    tmp_path: Path, medium: RealMedium, path: str, *, replace: bool
) -> None:
    recorded = Recorded(medium, tmp_path, path, replace=replace)
    syncs = [number for number, call in enumerate(recorded.calls) if call.what == "sync"]
    assert len(syncs) >= 2
    for left_out in syncs:
        calls = recorded.calls[:left_out] + recorded.calls[left_out + 1 :]
        assert recorded.violations(calls)


def test_writing_in_place_would_be_found(tmp_path: Path, medium: RealMedium) -> None:
    recorded = Recorded(medium, tmp_path, "f", replace=True)
    (inode,) = recorded.contents
    assert recorded.violations([Call("write", inode, (NEW,)), Call("sync", inode)])
