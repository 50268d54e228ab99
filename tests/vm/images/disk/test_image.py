"""What is made of a tree is made whole, and what killed processes have left is removed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.image import DiskRecipe, make_image
from core_infra.vm._images.disk.tree import directory
from core_infra.vm._images.image import Image

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._images.disk.tree import Node

DAY = 24 * 3600


@pytest.fixture
def base(tmp_path: Path) -> Image:
    kernel, initrd = tmp_path / "kernel", tmp_path / "initrd"
    kernel.write_bytes(b"kernel")
    initrd.write_bytes(b"initrd")
    return Image(kernel, initrd, "", "x86_64", "base", has_agent=True, console="ttyS0")


def make(base: Image, cache: Path, key: str = "1") -> Image:
    recipe = DiskRecipe("it", base, kind="oci-", key=key)
    return make_image(recipe, lambda _: directory(), cache_dir=cache, progress=lambda _: None)


def test_what_killed_processes_have_left_of_any_image_is_removed(
    base: Image, tmp_path: Path
) -> None:
    images = tmp_path / "cache" / "images"
    left, under_way = images / ".making-debian-x86_64-0", images / ".making-host-x86_64-1"
    for path in (left, under_way):
        path.mkdir(parents=True)
        (path / "part.tar").touch()
    with FileLock(images / ".host-x86_64-1.lock"):
        made = make(base, tmp_path / "cache")
    assert made.disk is not None
    assert made.disk.is_file()
    assert not left.exists()
    assert (under_way / "part.tar").exists()


def test_images_of_its_kind_that_were_not_used_for_long_are_removed(
    base: Image, tmp_path: Path
) -> None:
    images = tmp_path / "cache" / "images"
    old, used, other = (images / name for name in ("host-0", "host-1", "oci-0"))
    for path, age in ((old, 3 * DAY), (used, DAY / 2), (other, 3 * DAY)):
        path.mkdir(parents=True)
        os.utime(path, (time.time() - age,) * 2)
    recipe = DiskRecipe("it", base, kind="host-", key="1", kept=1)
    made = make_image(
        recipe, lambda _: directory(), cache_dir=tmp_path / "cache", progress=lambda _: None
    )
    assert {path for path in images.iterdir() if path.is_dir()} == {used, other, made.kernel.parent}


def test_a_tree_that_cannot_be_made_leaves_nothing(base: Image, tmp_path: Path) -> None:
    def tree(work: Path) -> Node:
        (work / "part.tar").write_bytes(b"x")
        raise InvalidError("no such file")

    recipe = DiskRecipe("it", base, kind="oci-", key="1")
    with pytest.raises(InvalidError):
        make_image(recipe, tree, cache_dir=tmp_path / "cache", progress=lambda _: None)
    assert {path.suffix for path in (tmp_path / "cache" / "images").iterdir()} == {".lock"}
