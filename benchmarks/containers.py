"""Podman's containers, which machines are compared with."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Podman asks for more than a small host may give.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


class Podman:
    """Podman with a storage of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = [
            *("podman", "--root", f"{root}/root", "--runroot", f"{root}/run"),
            *("--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc"),
        ]
        try:
            self._choose("overlay")
        except subprocess.CalledProcessError:
            self._choose("vfs")  # copies the whole image for each container

    def _choose(self, driver: str) -> None:
        command = [*self._base, "--storage-driver", driver]
        subprocess.run([*command, "info"], check=True, capture_output=True)
        self._base = command
        print(f"podman's storage: {driver}")

    def pull(self, source: str) -> str:
        """Pull an image, by its name with a transport of containers; return its id."""
        return self._output("pull", "-q", "--tls-verify=false", source)

    def load(self, archive: Path) -> str:
        """Make an image of an archive of its root; return its id."""
        return self._output("import", "-q", str(archive))

    def run(self, image: str, *command: str) -> float:
        """Run a command in a fresh container; return the seconds that it takes."""
        options = ["--rm", *LIMITS, "--network", "none", "--entrypoint", command[0]]
        start = time.perf_counter()
        argv = [*self._base, "run", *options, image, *command[1:]]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    def _output(self, *arguments: str) -> str:
        argv = [*self._base, *arguments]
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@contextlib.contextmanager
def podman() -> Iterator[Podman | None]:
    """Podman with runc; None if it is not installed."""
    if not (shutil.which("podman") and shutil.which("runc")):
        print("no podman and runc on PATH: left out")
        yield None
        return
    root = Path(tempfile.mkdtemp(prefix="podman-"))
    try:
        yield Podman(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def seconds(work: Callable[[], object]) -> float:
    """How long *work* takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
