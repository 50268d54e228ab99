"""``core-infra vm cache`` and ``vm console``, as a user sees them."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from core_infra._cli.main import main
from core_infra.vm._images.default.recipe import recipe_for
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.manifest import write_manifest
from core_infra.vm._snapshots.snapshot import Snapshot, write_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["vm", *args])


def snapshot(cache: Path, key: str, *, age: float) -> Path:
    directory = cache / "snapshots" / key
    directory.mkdir(parents=True)
    (directory / "ram").write_bytes(b"x" * 100_000)
    facts = {"image": "i", "memory": 256, "cpus": 1, "accelerator": "tcg"}
    write_snapshot(Snapshot(directory, key, "nonce", 1.0, facts))
    moment = time.time() - age
    os.utime(directory / "snapshot.json", (moment, moment))
    return directory


def image(cache: Path, name: str, *, age: float) -> Path:
    directory = cache / "images" / name
    directory.mkdir(parents=True)
    for file in ("kernel", "initrd"):
        (directory / file).write_bytes(b"x")
    fields = {"cmdline": "", "arch": "x86_64", "name": f"image {name}", "has_agent": True}
    write_manifest(directory, image={**fields, "console": "ttyS0"}, packages=[])
    os.utime(directory, (time.time() - age,) * 2)
    return directory


def test_an_empty_cache(cache: Path) -> None:
    assert json.loads(run("cache", "list", "--json").output) == []
    assert run("cache", "prune").output == "0 removed, 0 bytes\n"
    assert not cache.exists()


def test_images_are_listed_with_the_time_when_they_were_built_and_their_size(cache: Path) -> None:
    built = image(cache, "oci-x86_64-1", age=0)
    with (built / "disk.raw").open("wb") as disk:
        disk.write(b"x" * 50_000)
        disk.truncate(1 << 30)
    os.utime(built / "manifest.json", (10**9, 10**9))
    os.utime(built)  # its time is that of the last use
    [row] = json.loads(run("images", "--json").output)
    assert (row["image"], row["format"]) == ("image oci-x86_64-1", "oci")
    assert row["when"] == "2001-09-09T01:46:40+00:00"
    assert 50_000 <= row["size"] < 1_000_000, "holes take no room"
    heading, line = run("images").output.splitlines()
    assert heading.split()[-2:] == ["WHEN", "SIZE"]
    assert "2001-09-09" in line


def test_all_that_is_kept_is_listed(cache: Path) -> None:
    snapshot(cache, "aaaa", age=0)
    image(cache, "default-x-1", age=0)
    (image(cache, "default-x-2", age=9) / "kernel").write_bytes(b"")
    rows = json.loads(run("cache", "list", "--json").output)
    assert [(row["kind"], row["key"]) for row in rows] == [
        ("snapshot", "aaaa"),
        ("image", "default-x-1"),
        ("image", "default-x-2"),
    ]
    assert rows[0]["what"] == "256 MiB, 1 cpu, tcg"
    assert rows[0]["bytes"] >= 100_000
    assert rows[1]["what"] == "image default-x-1"
    assert "damaged: kernel has 0 bytes" in rows[2]["what"]
    assert "3 in " in run("cache", "list").output


def test_prune_keeps_what_was_used_last_up_to_a_limit(cache: Path) -> None:
    old, new = snapshot(cache, "old", age=10), snapshot(cache, "new", age=1)
    result = run("cache", "prune", "--limit", "150k")
    assert "removed snapshot old (256 MiB" in result.output
    assert (old.exists(), new.exists()) == (False, True)
    run("cache", "prune")
    assert not new.exists()


def test_prune_removes_images_but_not_the_current_one(cache: Path) -> None:
    arch = host_arch()
    current = image(cache, f"default-{arch}-{recipe_for(arch).key}", age=9 * DAY)
    older, newer = image(cache, "default-a", age=9 * DAY), image(cache, "default-b", age=DAY)
    rows = json.loads(run("cache", "prune", "--older", "5", "--json").output)
    assert [row["key"] for row in rows] == ["default-a"]
    assert (current.exists(), older.exists(), newer.exists()) == (True, False, True)
    run("cache", "prune")
    assert (current.exists(), newer.exists()) == (True, False)


def test_what_is_no_size() -> None:
    result = run("cache", "prune", "--limit", "much")
    assert result.exit_code == 2
    assert "'much' is not a size such as 500M or 2G" in result.output


def test_a_console_of_no_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = run("console", "1")
    assert result.exit_code == 3
    assert "no kept machine has the process id 1" in result.output
