"""Builds the default image of the test's packages in a directory, and prints what it does."""

from __future__ import annotations

import sys
from pathlib import Path

from core_infra.vm._images.default.builder import build
from core_infra.vm._images.default.recipe import Recipe


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    build(Recipe("x86_64", ("debian",), "12", b"the agent"), Path(sys.argv[1]), show)
