"""What a user is told where the programs in C are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra import _binaries
from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("is_checkout", "todo"), [(True, "hatch_build.py"), (False, "wheel for all platforms")]
)
def test_a_missing_program_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, todo: str, *, is_checkout: bool
) -> None:
    if is_checkout:
        (tmp_path / "hatch_build.py").touch()
    monkeypatch.setattr(_binaries, "BINARIES", tmp_path / "src" / "core_infra" / "bin")
    for find in (
        lambda: _binaries.host_program("reaper", "reaper of processes"),
        lambda: _binaries.host_program("forkserver.so", "fork server"),
        lambda: _binaries.agent_binary("aarch64"),
    ):
        with pytest.raises(UnavailableError) as caught:
            find()
        assert todo in caught.value.todo
