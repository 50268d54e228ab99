"""The layout in which blobs are kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError
from core_infra.vm._images.cached import prune_images
from core_infra.vm._images.oci.store import Store

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import os, signal, sys
from pathlib import Path
from core_infra.vm._images.oci.store import Store

def pieces():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1])).add(pieces())
"""


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITER, tmp_path], check=False)
    assert list(tmp_path.glob(".part-*"))
    store = Store(tmp_path)
    digest = store.add([b"whole"])
    assert store.read(digest, 10) == b"whole"
    assert not list(tmp_path.glob(".part-*"))


def test_a_part_that_is_being_written_stays(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Store(tmp_path)

    def pieces() -> list[bytes]:
        other.add([b"meanwhile"])
        return [b"whole"]

    digest = store.add(piece for make in (pieces,) for piece in make())
    assert store.read(digest, 10) == b"whole"


def test_a_wrong_digest_keeps_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(InvalidError, match="is not what its digest says"):
        store.add([b"x"], f"sha256:{hashlib.sha256(b'y').hexdigest()}")
    assert not list((tmp_path / "blobs" / "sha256").iterdir())


def test_names_are_replaced_and_others_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, digest in (("a", "1"), ("b", "2"), ("a", "3")):
        store.name(name, {"digest": digest, "size": 1})
    assert [(store.find(name) or {})["digest"] for name in ("a", "b")] == ["3", "2"]
    assert store.find("c") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"manifests": 1}', '{"manifests": [1]}'])
def test_a_damaged_index_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InvalidError, match=r"the index .*index\.json is damaged"):
        Store(tmp_path).find("a")


def test_old_blobs_are_pruned_with_the_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    store = Store(tmp_path / "oci")
    old, new = store.add([b"old"]), store.add([b"new"])
    os.utime(store.path(old), (1, 1))
    prune_images(tmp_path, before=time.time() - 3600)
    assert (store.has(old), store.has(new)) == (False, True)
