"""A file whose directory is deleted while it is written: the content is prepared in one above."""

# ruff: noqa: PTH208 - the names are what counts

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.medium import LocalMedium
from core_infra.medium._contended_write import write_contended
from core_infra.medium._paths import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ACL = "system.posix_acl_access"
COLLEAGUE = 4242


@pytest.fixture
def before_each_rename(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    def install(action: Callable[[], None]) -> None:
        real = os.replace

        def replace(*args: Any, **options: Any) -> None:
            action()
            real(*args, **options)

        monkeypatch.setattr(os, "replace", replace)

    return install


def write(path: Path, data: bytes, mode: int | None = None) -> None:
    write_contended(lambda where, flags: os.open(where, flags, 0o666), str(path), data, mode)


def access(path: Path) -> tuple[int, int, bytes | None]:
    status = path.stat()
    names = os.listxattr(path)
    acl = os.getxattr(path, ACL) if ACL in names else None
    return status.st_mode & 0o777, status.st_gid, acl


@pytest.mark.parametrize("kind", ["new", "given mode", "old", "default ACL"])
def test_it_is_private_above_and_has_the_same_access_as_an_ordinary_write(
    tmp_path: Path, before_each_rename: Callable[[Callable[[], None]], None], kind: str
) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    mode = 0o640 if kind == "given mode" else None
    if kind == "default ACL":
        rows = [(0x01, 7), (0x02, 6, COLLEAGUE), (0x04, 5), (0x10, 7), (0x20, 0)]
        packed = b"".join(
            struct.pack("<HHI", tag, can, *(who or [0xFFFFFFFF])) for tag, can, *who in rows
        )
        try:
            os.setxattr(own, "system.posix_acl_default", struct.pack("<I", 2) + packed)
        except OSError:
            pytest.skip("the file system has no access control lists")
    for name in ("usual", "contended"):
        if kind == "old":
            (own / name).write_text("old")
            (own / name).chmod(0o604)
    seen_above: list[int] = []

    def look() -> None:
        above = [path for path in tmp_path.iterdir() if path.name.startswith(RESERVED)]
        seen_above.extend(path.stat().st_mode & 0o777 for path in above)

    LocalMedium().write_bytes(own / "usual", b"new", mode=mode)
    before_each_rename(look)
    write(own / "contended", b"new", mode)
    assert seen_above == [0o600]
    assert (own / "contended").read_bytes() == b"new"
    assert access(own / "contended") == access(own / "usual")
    assert len(list(own.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [own]


@pytest.mark.parametrize("deleted", [(1,), (2,), (1, 2, 3, 4)], ids=str)
def test_it_is_written_although_its_directory_is_deleted_at_any_moment(
    tmp_path: Path,
    before_each_rename: Callable[[Callable[[], None]], None],
    deleted: tuple[int, ...],
) -> None:
    medium = LocalMedium(tmp_path)
    descriptors = len(os.listdir("/proc/self/fd"))
    renames: list[int] = []

    def delete() -> None:
        renames.append(1)
        if len(renames) in deleted:
            medium.delete_all("a/b")

    before_each_rename(delete)
    write(tmp_path / "a" / "b" / "f", b"new")
    assert len(renames) > max(deleted)
    assert medium.read_bytes("a/b/f") == b"new"
    assert [os.listdir(tmp_path / way) for way in (".", "a", "a/b")] == [["a"], ["b"], ["f"]]
    assert len(os.listdir("/proc/self/fd")) == descriptors
