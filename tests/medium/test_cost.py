from __future__ import annotations

import subprocess
import sys

DEAR = {"ctypes", "dataclasses", "difflib", "inspect", "pathlib", "pyfakefs", "random"} | {
    "shutil",
    "tarfile",
}


def test_importing_it_loads_nothing_dear() -> None:
    program = "import sys, core_infra.medium; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert DEAR.isdisjoint(done.stdout.split())
