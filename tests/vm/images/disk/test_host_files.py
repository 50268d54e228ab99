"""Directories of the host as trees: what is in them, and what stays out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.ext4 import write_ext4
from core_infra.vm._images.disk.host_files import read_host_files
from core_infra.vm._images.disk.tree import Node, walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "usr/bin").mkdir(parents=True)
    program = top / "usr/bin/program"
    program.write_bytes(b"program" * 2000)
    program.chmod(0o755)
    (top / "usr/bin/alias").hardlink_to(program)
    (top / "bin").symlink_to("usr/bin")
    (top / "usr/empty").touch()
    secret = top / "usr/secret"
    secret.write_text("secret")
    secret.chmod(0o640)
    private = top / "usr/private"
    private.mkdir(mode=0o700)
    (private / "key").write_text("secret")
    os.mkfifo(top / "usr/pipe")
    for path in (top, top / "usr", top / "usr/bin"):
        path.chmod(0o755)
    return top


def paths(root: Node) -> set[str]:
    return {path.decode() for path, _ in walk(root)}


def test_a_tree_has_all_files_with_their_content(top: Path, tmp_path: Path) -> None:
    found = read_host_files(top)
    assert {"/bin", "/usr/bin/alias", "/usr/secret", "/usr/private/key"} <= paths(found.root)
    assert found.left_out == {"usr/pipe": "it is a device, a socket or a pipe"}
    usr = found.root.entries[b"usr"]
    assert usr.entries[b"bin"].entries[b"alias"] is usr.entries[b"bin"].entries[b"program"]
    disk = tmp_path / "disk.raw"
    write_ext4(disk, found.root, free=1 << 20)
    debugfs = shutil.which("debugfs", path=f"{os.environ['PATH']}:/usr/sbin")
    if debugfs is None:
        pytest.skip("debugfs is not installed")
    command = [debugfs, "-R", "cat /usr/bin/program", str(disk)]
    done = subprocess.run(command, check=True, capture_output=True)
    assert done.stdout == b"program" * 2000


def test_what_not_every_user_may_read_stays_out_and_is_listed(top: Path) -> None:
    found = read_host_files(top, public=True)
    assert not {"/usr/secret", "/usr/private", "/usr/private/key"} & paths(found.root)
    assert found.left_out == {
        "usr/pipe": "it is a device, a socket or a pipe",
        "usr/private": "not every user may read it",
        "usr/secret": "not every user may read it",
    }


def test_the_digest_changes_with_each_file(top: Path) -> None:
    def digest() -> str:
        return read_host_files(top).digest

    first = digest()
    assert digest() == first
    (top / "usr/empty").chmod(0o600)
    second = digest()
    (top / "usr/secret").write_text("longer than before")
    assert len({first, second, digest()}) == 3


def test_a_path_can_be_left_out_with_a_reason(top: Path) -> None:
    found = read_host_files(top, skip=lambda path: "unwanted" if path == b"usr/bin" else "")
    assert "/usr/bin" not in paths(found.root)
    assert found.left_out["usr/bin"] == "unwanted"


def test_another_file_in_the_place_of_one_is_not_copied(top: Path, tmp_path: Path) -> None:
    (top / "usr/bin/alias").unlink()
    found = read_host_files(top, public=True)
    program = top / "usr/bin/program"
    ways: list[Callable[[], None]] = [
        lambda: program.symlink_to("../secret"),
        lambda: program.hardlink_to(top / "usr/secret"),
        lambda: os.mkfifo(program),
    ]
    for replace in ways:
        program.unlink()
        replace()
        with pytest.raises(InvalidError, match="usr/bin/program has changed while it was copied"):
            write_ext4(tmp_path / "disk.raw", found.root, free=1 << 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_what_is_mounted_on_a_file_or_from_the_same_disk_stays_out(top: Path) -> None:
    (top / "usr/token").write_text("secret")
    (top / "usr/token").chmod(0o644)
    mounts = f"mount --bind {top}/usr/token {top}/usr/empty && mount --bind {top}/usr/bin {top}/opt"
    script = (
        "from pathlib import Path; import sys\n"
        "from core_infra.vm._images.disk.host_files import read_host_files\n"
        "print(sorted(read_host_files(Path(sys.argv[1]), mounted=[b'opt2']).left_out))"
    )
    (top / "opt").mkdir()
    command = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "-"]
    done = subprocess.run(
        [*command, sys.executable, "-c", script, str(top)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "permission denied" in done.stderr.lower():
        pytest.skip("this host lets nobody mount")
    assert done.stdout == "['opt', 'usr/empty', 'usr/pipe']\n", done.stderr
