"""pytest runs of their own, on the machines of this host, and what they leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core_infra.vm._cache import cache_root
from pytest_core_infra._vm.options import OPTIONS
from support import is_running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setenv("CORE_INFRA_VM_TRACE", "off")  # one second for each test that fails
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")  # one second for each run
    # pytester gives its runs a home of their own, but the image need not be built again.
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(cache_root()))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory where the pytest runs of this test, and no others, keep their machines."""
    # Not tmp_path: the path of a UNIX socket must be short.
    directory = tempfile.mkdtemp(prefix="runs-")
    monkeypatch.setenv("TMPDIR", directory)
    yield Path(directory) / f"core-infra-{os.getuid()}"
    for pid in kept_pids(Path(directory)):
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(directory)


def kept_pids(directory: Path) -> list[int]:
    records = directory.rglob("machine.json")
    return [json.loads(record.read_text())["pid"] for record in records]
