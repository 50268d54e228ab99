"""What only the simulated file system has: rules of systems, and code that sees the same tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyfakefs.helpers import set_uid

from core_infra.medium import (
    AccessDeniedError,
    FakeMedium,
    PathExistsError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfakefs.fake_filesystem import FakeFilesystem


@pytest.fixture
def medium() -> FakeMedium:
    return FakeMedium()


def test_code_that_uses_plain_open_sees_the_same_tree(fs: FakeFilesystem) -> None:
    medium = FakeMedium(fs)
    medium.write_text("/etc/app/config", "from the medium", mode=0o600)
    assert Path("/etc/app/config").read_text() == "from the medium"
    assert Path("/etc/app/config").stat().st_mode & 0o777 == 0o600
    Path("/etc/app/other").write_text("from the code")
    assert medium.read_text("etc/app/other") == "from the code"
    assert medium.list("/etc/app") == ["config", "other"]


def test_the_real_disk_is_not_touched(tmp_path: Path, medium: FakeMedium) -> None:
    medium.write_text(f"{tmp_path}/f", "fake")
    medium.rename(f"{tmp_path}/f", f"{tmp_path}/g")
    medium.ensure_dir(f"{tmp_path}/d")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_version_and_nothing_else(medium: FakeMedium) -> None:
    medium.filesystem.set_disk_usage(1000)
    medium.write_bytes("d/f", b"x" * 400)
    with pytest.raises(StorageError, match="No space left"):
        medium.write_bytes("d/f", b"y" * 700)
    with pytest.raises(StorageError), medium.append("d/f") as writer:
        writer.write(b"y" * 700)
    assert medium.read_bytes("d/f") == b"x" * 400
    names = [entry.name for entry in medium.filesystem.get_object("/d").entries.values()]
    assert names == ["f"]


@pytest.fixture
def _as_user() -> Iterator[None]:
    set_uid(1000)
    yield
    set_uid(0)


@pytest.mark.usefixtures("_as_user")
def test_a_file_without_permission_is_denied(medium: FakeMedium) -> None:
    medium.write_text("d/f", "1", mode=0o200)
    with pytest.raises(AccessDeniedError):
        medium.read_text("d/f")
    medium.filesystem.chmod("/d", 0o500)
    for operation in (medium.delete, medium.delete_all, lambda p: medium.write_text(p, "2")):
        with pytest.raises(AccessDeniedError):
            operation("d/f")


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_names_that_differ_in_case_are_one_where_they_are(system: str) -> None:
    medium = FakeMedium(system=system)  # type: ignore[arg-type]
    medium.write_text("Readme", "1")
    medium.ensure_dir("Dir")
    assert medium.read_text("README") == "1"
    medium.write_text("readme", "2")
    assert medium.read_text("Readme") == "2"
    assert len(medium.list(".")) == 2
    with pytest.raises(PathExistsError):
        medium.rename("readme", "DIR")


def test_a_backslash_parts_names_on_windows_only() -> None:
    windows, linux = FakeMedium(system="windows"), FakeMedium()
    for medium in (windows, linux):
        medium.ensure_dir("a")
        medium.write_text("a\\b", "1")
    assert windows.list("a") == ["b"]
    assert linux.list(".") == ["a", "a\\b"]


def test_without_pyfakefs_the_error_says_what_to_install(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["pyfakefs"] = None
from core_infra.errors import UnavailableError
from core_infra.medium import FakeMedium
try:
    FakeMedium()
except UnavailableError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "pip install core-infra[pyfakefs]" in done.stdout
