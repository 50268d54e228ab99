"""The agent's binaries, and a running agent."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

import hatch
from agent_process import Agent
from core_infra import _binaries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def agent_path() -> Path:
    """The agent as it is shipped, for this host's architecture."""
    arch = platform.machine()
    assert _binaries.agent_binary(arch)
    return _binaries.BINARIES / f"agent-{arch}"


@pytest.fixture
def agent(agent_path: Path) -> Iterator[Agent]:
    with Agent(agent_path) as running:
        yield running


@pytest.fixture(scope="session")
def checked_agent_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent, compiled so that undefined behaviour traps."""
    pytest.importorskip("ziglang")
    path = tmp_path_factory.mktemp("agent") / "agent"
    build_hook = hatch.load()
    build_hook.compile_program(
        hatch.ROOT, "agent", platform.machine(), path, *build_hook.UBSAN_TRAP
    )
    return path
