"""Who may read a file while it is written, and after it was replaced."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core_infra.medium import LocalMedium, Medium, SandboxMedium
from core_infra.medium._paths import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACL = "system.posix_acl_access"
TEAM, NOBODY, COLLEAGUE = 12345, 65534, 4242
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that other users reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        yield Path(made)


@pytest.fixture(params=[LocalMedium, SandboxMedium])
def medium(request: pytest.FixtureRequest, directory: Path) -> Medium:
    made: Medium = request.param(directory)
    return made


def as_member_of_the_team(action: Callable[[], object], groups: list[int]) -> int:
    """Do something as nobody; returns 0 if it worked."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def acl(**entries: int) -> bytes:
    """An access control list in which one colleague may do as the entries say."""
    rows = [
        (0x01, entries["owner"], 0xFFFFFFFF),
        (0x02, entries["colleague"], COLLEAGUE),
        (0x04, entries["group"], 0xFFFFFFFF),
        (0x10, entries["mask"], 0xFFFFFFFF),
        (0x20, entries["others"], 0xFFFFFFFF),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


def set_attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip(f"the file system has no {name}")


def modes_of_unfinished(directory: Path) -> set[int]:
    found = [path for path in directory.iterdir() if path.name.startswith(RESERVED)]
    return {path.stat().st_mode & 0o777 for path in found}


def test_what_will_be_private_is_private_while_it_is_written(
    directory: Path, medium: Medium
) -> None:
    with medium.create("new", mode=0o600) as writer:
        writer.write(b"key")
        assert modes_of_unfinished(directory) == {0o600}
    medium.write_text("old", "1", mode=0o640)
    with medium.create("old") as writer:
        writer.write(b"key")
        assert modes_of_unfinished(directory) == {0o600}
    assert medium.stat("new").mode == 0o600
    assert medium.stat("old").mode == 0o640


@needs_root
def test_a_member_of_its_group_may_replace_a_file_and_the_group_stays(
    directory: Path, medium: Medium
) -> None:
    medium.write_text("pay", "1")
    os.chown(directory / "pay", 0, TEAM)
    (directory / "pay").chmod(0o660)
    assert as_member_of_the_team(lambda: medium.write_text("pay", "2"), [TEAM]) == 0
    info = (directory / "pay").stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (NOBODY, TEAM, 0o660)
    assert medium.read_text("pay") == "2"


@needs_root
def test_another_group_gets_no_more_than_everybody_has(directory: Path, medium: Medium) -> None:
    medium.write_text("pay", "1")
    os.chown(directory / "pay", 0, TEAM)
    (directory / "pay").chmod(0o664)
    assert as_member_of_the_team(lambda: medium.write_text("pay", "2"), []) == 0
    info = (directory / "pay").stat()
    assert (info.st_gid, info.st_mode & 0o777) == (NOBODY, 0o644)


def test_an_access_control_list_stays(directory: Path, medium: Medium) -> None:
    medium.write_text("f", "1")
    old = acl(owner=6, colleague=6, group=0, mask=6, others=0)
    set_attribute(directory / "f", ACL, old)
    medium.write_text("f", "2")
    assert os.getxattr(directory / "f", ACL) == old
    medium.write_text("f", "3", mode=0o640)
    expected = acl(owner=6, colleague=6, group=0, mask=4, others=0)
    assert os.getxattr(directory / "f", ACL) == expected
    assert medium.stat("f").mode == 0o640


def test_a_file_without_a_list_does_not_get_that_of_its_directory(
    directory: Path, medium: Medium
) -> None:
    medium.write_text("f", "1", mode=0o640)
    default = acl(owner=7, colleague=7, group=5, mask=7, others=5)
    set_attribute(directory, "system.posix_acl_default", default)
    medium.write_text("f", "2")
    assert ACL not in os.listxattr(directory / "f")
    assert medium.stat("f").mode == 0o640
    medium.write_text("new", "1")
    assert ACL in os.listxattr(directory / "new")  # as any new file there


def test_attributes_stay_but_not_those_of_the_content(directory: Path, medium: Medium) -> None:
    medium.write_text("f", "1")
    set_attribute(directory / "f", "user.origin", b"somewhere")
    if os.geteuid() == 0:
        net_bind = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
        set_attribute(directory / "f", "security.capability", net_bind)
    medium.write_text("f", "2")
    assert os.getxattr(directory / "f", "user.origin") == b"somewhere"
    assert "security.capability" not in os.listxattr(directory / "f")
