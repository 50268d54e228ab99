"""The agent's binaries, and a running agent."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent_process import Agent

from core_infra import _binaries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def agent_path() -> Path:
    """The agent as it is shipped, for this host's architecture."""
    arch = platform.machine()
    assert _binaries.agent_binary(arch)
    return Path(_binaries.__file__).parent / "bin" / f"agent-{arch}"


@pytest.fixture
def agent(agent_path: Path) -> Iterator[Agent]:
    with Agent(agent_path) as running:
        yield running


@pytest.fixture(scope="session")
def build_hook() -> ModuleType:
    """The module hatch_build.py."""
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def checked_agent_path(build_hook: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent, compiled so that undefined behaviour traps."""
    pytest.importorskip("ziglang")
    path = tmp_path_factory.mktemp("agent") / "agent"
    build_hook.compile_program(ROOT, "agent", platform.machine(), path, *build_hook.UBSAN_TRAP)
    return path
