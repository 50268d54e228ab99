"""Something to archive."""

from __future__ import annotations

import random

from core_infra.build._artifact import Artifact

APP = Artifact("dist/linux_amd64/myapp", "linux", "amd64")


def some_data(size: int, seed: int = 1) -> bytes:
    """Half of it packs well, half not at all, in turns of 4 KB: each block has both."""
    source = random.Random(seed)  # noqa: S311 - no secret
    words = [source.randbytes(source.randint(2, 9)) for _ in range(200)]
    turns = []
    for _ in range(0, size, 8192):
        turns.append(b"".join(source.choices(words, k=2500))[:4096].ljust(4096, b"x"))
        turns.append(source.randbytes(4096))
    return b"".join(turns)[:size]


DATA = some_data(1_300_000)
