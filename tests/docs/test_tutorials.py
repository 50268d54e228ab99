"""The tutorials, run as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

import tutorial

PAGES = sorted((Path(__file__).parents[2] / "docs/tutorials").glob("*.md"))


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_works_as_written(page: Path, tmp_path: Path) -> None:
    tutorial.run(page, tmp_path)
