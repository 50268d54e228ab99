"""The digest of what a prepared machine depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._snapshots.fingerprints import contents

if TYPE_CHECKING:
    from pathlib import Path


def test_contents_count_and_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "file").write_text("one")
    (tree / "link").symlink_to("file")
    seen = {contents([tree])}
    tree = tree.rename(tmp_path / "moved")
    assert contents([tree]) in seen
    assert contents([str(tree)]) == contents(tree)
    (tree / "file").write_text("two")
    seen.add(contents([tree]))
    (tree / "file").chmod(0o755)
    seen.add(contents([tree]))
    (tree / "below" / "new").touch()
    seen.add(contents([tree]))
    (tree / "link").unlink()
    (tree / "link").symlink_to("below")
    seen.add(contents([tree]))
    (tree / "file").rename(tree / "other")
    seen.add(contents([tree]))
    assert len(seen) == 6


def test_bad_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing.*begins at"):
        contents(["missing"])
    with pytest.raises(InvalidError, match="depends=3"):
        contents([3])  # type: ignore[list-item] # on purpose
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidError, match="loop"):
        contents([tmp_path / "loop"])
