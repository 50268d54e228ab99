"""The pages of a capsule and of a run, in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core_infra.vm._capsule.page import filled, page
from pytest_core_infra._vm import suite_page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = "</script><img src=x onerror=alert(1)>\u2028"

STEP = {"took": 0.01, "error": "", "note": "", "exit_code": 0, "stdout": "out", "stderr": EVIL}
CAPSULE: dict[str, Any] = {
    "test": f"test_it.py::test_it[{EVIL}]",
    "phase": "call",
    "outcome": "failed",
    "error": EVIL,
    "traceback": EVIL,
    "source": {"path": "test_it.py", "first": 1, "failing": 2, "text": f"def test_it():\n{EVIL}"},
    "began": 1.8e9,
    "versions": {"QEMU": "7.2"},
    "machines": [
        {
            "name": name,
            "status": "running",
            "trouble": "",
            "faults": [EVIL],
            "changes": [EVIL],
            "console": EVIL,
            "facts": {"image": EVIL},
            "state": "state",
            "steps": [
                {**STEP, "kind": "command", "what": EVIL, "at": 0.5, "waited": EVIL},
                {**STEP, "kind": "fault", "what": "slow", "at": 0.1, "took": None},
            ],
        }
        for name in ("one", "other")
    ],
    "networks": [],
}
TEST = {
    "worker": "gw0",
    "outcome": "failed",
    "phases": [["setup", 1e9, 0.2, "passed"], ["call", 1e9 + 0.2, 0.3, "failed"]],
    "error": EVIL,
    "capsule": "it's/a b.capsule",
    "machines": 1,
    "machine_seconds": EVIL,
    "image": EVIL,
}
RUN = {"facts": [EVIL], "tests": [{**TEST, "name": f"{EVIL}{number}"} for number in range(3)]}


def shown(directory: Path, text: str) -> str:
    """What a browser makes of a page, without an error."""
    assert CHROMIUM is not None
    path = directory / "page.html"
    path.write_text(text)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    argv = [CHROMIUM, *options, f"--user-data-dir={directory}/browser", "--dump-dom"]
    run = subprocess.run(
        [*argv, path.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
    body = run.stdout.partition("<body>")[2]
    return re.sub("<script>.*</script>", "", body, flags=re.DOTALL)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_pages_show_what_guests_printed_and_do_not_obey_it(tmp_path: Path) -> None:
    capsule = shown(tmp_path, page(CAPSULE))
    assert (capsule.count("<rect"), capsule.count("<details")) == (4, 4)
    assert "still under way" in capsule
    run = shown(tmp_path, filled(Path(suite_page.__file__).with_name("suite.html"), RUN))
    assert (run.count("<rect"), run.count("<details")) == (6, 3)
    assert "core-infra vm open 'it'\\''s/a b.capsule'" in run
    for text in (capsule, run):
        assert "<img" not in text
        assert "&lt;img src=x onerror=alert(1)&gt;" in text
