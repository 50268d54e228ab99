"""A host without room, and a cache that cannot be written or is removed: told, and gone on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core_infra.vm import Launcher
from core_infra.vm._cache import cache_root, found, places, report_news, writable
from core_infra.vm._disks import as_disks
from core_infra.vm._free_space import HostFullError
from core_infra.vm._run_directory import base_directory

SCRIPT = Path(__file__).with_name("programs") / "on_a_full_host.py"
ALONE = ("unshare", "--mount", "--map-root-user")


def run_on_a_small_disk(directory: Path, *arguments: str) -> None:
    if subprocess.run([*ALONE, "mount", "-t", "tmpfs", "x", directory], check=False).returncode:
        pytest.skip("mounting a small file system needs root, or user namespaces")
    command = [*ALONE, sys.executable, str(SCRIPT), str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_a_machine_is_paused_while_its_host_has_no_room(tmp_path: Path) -> None:
    run_on_a_small_disk(tmp_path)


@pytest.mark.long
def test_a_machine_that_stays_is_paused_as_well(tmp_path: Path) -> None:
    run_on_a_small_disk(tmp_path, "stays")


def test_a_cache_that_cannot_be_written_has_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disks").touch()  # where a directory should be
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path))
    first, second = as_disks(["2G"])[0], as_disks(["2G"])[0]
    assert first == second
    assert first.path.exists()
    assert first.path.is_relative_to(base_directory()), "it ends with this process"
    said: list[str] = []
    for _ in range(2):
        report_news(said.append)
    assert len(said) == 1, "it is said once"
    assert str(tmp_path / "disks") in said[0]
    assert "CORE_INFRA_CACHE_DIR" in said[0]


def test_a_cache_without_room_has_a_stand_in(tmp_path: Path) -> None:
    full = tmp_path / "full"
    place = writable(full, room=1 << 20)
    assert place == full
    assert places(full) == [full]
    too_much = shutil.disk_usage(tmp_path).free + (1 << 30)
    with pytest.raises(HostFullError, match=r"MiB may be needed; and instead of it, /"):
        writable(full, room=too_much)
    assert found(full, "anything") is None


def test_a_cache_that_is_removed_meanwhile_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "cache" / "images"
    shutil.copytree(cache_root() / "images", images, copy_function=os.link)
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path / "cache"))
    with Launcher(accelerator="tcg", memory=128, ready=0) as launcher:
        first = launcher.clone(disks=["64M"])
        first.snapshot("here")
        shutil.rmtree(tmp_path / "cache")
        second = launcher.clone(disks=["64M"])
        assert not (tmp_path / "cache" / "snapshots").exists(), "it is cloned all the same"
        for machine in (first, second):
            assert machine.exec("head -c 1 /dev/vda | wc -c", check=True).stdout.strip() == "1"
        first.revert("here")
        first.revert()
        assert launcher.clone(memory=144).exec("true").exit_code == 0, "it is made anew"
