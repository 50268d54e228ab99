"""Podman's containers, which machines are compared with."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from core_infra.vm import Launcher

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

    def run_together(self, image: str, names: Sequence[str], network: str) -> float:
        """Run containers on one network, all started at once.

        Returns:
            The seconds until each of them has run a command; removing them is not counted.
        """
        options = ["--detach", *LIMITS, "--network", network, "--entrypoint", "/bin/sleep"]
        start = time.perf_counter()
        starting = [
            subprocess.Popen(
                [*self._base, "run", *options, "--name", name, image, "1000"],
                stdout=subprocess.DEVNULL,
            )
            for name in names
        ]
        if sum(one.wait() for one in starting):
            raise RuntimeError("podman run failed")
        for name in names:
            self._output("exec", name, "/bin/echo", "hi")
        taken = time.perf_counter() - start
        self._output("rm", "--force", "--time", "0", *names)
        return taken

    @contextlib.contextmanager
    def network(self, name: str) -> Iterator[str]:
        """A network within the block."""
        self._output("network", "create", name)
        try:
            yield name
        finally:
            self._output("network", "rm", "--force", name)

    def busybox(self, launcher: Launcher) -> str:
        """Make an image of nothing but the busybox of the guest's image; return its id."""
        tree = self.root / "tree" / "bin"
        tree.mkdir(parents=True)
        machine = launcher.clone()
        machine.pull("/bin/busybox", tree / "busybox")
        launcher.discard(machine)
        (tree / "busybox").chmod(0o755)
        for name in ("sh", "echo", "sleep"):
            (tree / name).symlink_to("busybox")
        archive = self.root / "image.tar"
        subprocess.run(["tar", "-C", tree.parent, "-cf", archive, "."], check=True)
        return self.load(archive)

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
