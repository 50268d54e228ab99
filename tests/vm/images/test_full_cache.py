"""What does not fit into the cache is one clear error, and leaves nothing there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_packages import Repository

PROGRAM = Path(__file__).parent / "programs" / "fill_cache.py"
# A user's own namespace, in which no right is needed to mount a small file system.
SMALL = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$0" "$2" "$1" "$3"'
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.mark.parametrize("what", ["packages", "disk"])
def test_a_full_cache_is_one_error_and_nothing_is_left(what: str, tmp_path: Path) -> None:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a user cannot make a namespace here")
    if what == "packages" and not shutil.which("apt-get"):
        pytest.skip("this host has no apt")
    cache = tmp_path / "cache"
    cache.mkdir()
    (tmp_path / "repository").mkdir()
    repository = Repository(tmp_path / "repository")
    repository.add("large", {"large": os.urandom(8 << 20)})
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", SMALL, sys.executable, cache, PROGRAM, what],
        env={**os.environ, "APT_CONFIG": str(repository.config), "TMPDIR": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["what"].startswith("cannot write ")
    assert found["why"].startswith("No space left on device")
    assert f"{cache} (tmpfs)" in found["why"]
    assert [path for path in found["left"] if not path.startswith("debian/debian-bookworm/")] == []
