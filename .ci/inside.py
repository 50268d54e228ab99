"""Process 1 of a root: mounts the usual file systems, enters, and runs one command there.

`unshare` starts it in mount and process namespaces of its own, so that the kernel undoes every
mount and ends every process with it, however it ends.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
"""The signals that nohup and a shell's & ignore."""
MNT_DETACH = 2
GRACE = 10.0
"""Seconds for processes that the command has told to exit."""
NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--mount-proc"),
    *("--fork", "--kill-child"),
)
"""Prefix of a command: if it is killed, its processes end and its mounts are undone."""


@dataclass
class Order:
    """What to run, where, and as which user."""

    root: str
    argv: list[str]
    cwd: str = "/"
    uid: int = 0
    env: dict[str, str] = field(default_factory=dict)
    read_only: list[str] = field(default_factory=list)
    """Directories of the host that are mounted under the same names."""
    writable: dict[str, str] = field(default_factory=dict)
    """Directories of the host by their names in the root."""

    def command(self) -> list[str]:
        """The command that carries it out."""
        return [*NAMESPACES, sys.executable, __file__, json.dumps(asdict(self))]


def main() -> int:
    """Carry out the order in our argument; returns the command's exit code."""
    order = Order(**json.loads(sys.argv[1]))
    enter(order)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with Path("/dev/null").open("rb") as nothing:
        command = subprocess.Popen(
            order.argv,
            cwd=order.cwd,
            env=order.env,
            stdin=nothing,
            user=order.uid,
            group=order.uid,
            extra_groups=[order.uid],
            start_new_session=True,
        )
    # Whatever loses its parent becomes our child: nobody else reaps it.
    while True:
        pid, status = os.wait()
        if pid == command.pid:
            break
    for line in left_behind():
        print(f"left behind: {line}", file=sys.stderr)
        status = status or 1 << 8
    return os.waitstatus_to_exitcode(status)


def left_behind() -> list[str]:
    """The processes that still run besides us, and are not about to end."""
    deadline = time.monotonic() + GRACE
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        others = [
            path for path in Path("/proc").iterdir() if path.name.isdigit() and path.name != "1"
        ]
        if not others or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    lines = []
    for path in others:
        with contextlib.suppress(OSError):  # it has just ended
            words = (path / "cmdline").read_bytes().split(b"\0")
            lines.append(f"{path.name} {b' '.join(words).decode(errors='replace')}")
    return lines


def enter(order: Order) -> None:
    """Mount, and make the root the root of this namespace: a chroot may not make namespaces."""
    root = Path(order.root)
    mount("--bind", root, root)  # only a mount can become the root
    mount("--rbind", "/dev", root / "dev")
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620", "devpts", root / "dev/pts")
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "dev/shm")
    mount("--rbind", "/sys", root / "sys")
    mount("-t", "proc", "proc", root / "proc")
    for name in order.read_only:
        mount("--bind", "-o", "ro", name, below(root, name))
    for name, directory in order.writable.items():
        mount("--bind", directory, below(root, name))
    os.chdir(root)
    libc = ctypes.CDLL(None, use_errno=True)
    # The old root comes to lie over the new one at the same place, and is taken off there.
    if libc.pivot_root(b".", b".") != 0 or libc.umount2(b".", MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), f"cannot make {root} the root")
    os.chdir("/")


def below(root: Path, name: str) -> Path:
    """The directory of this name in the root; made if need be."""
    place = root / name.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    return place


def mount(*arguments: str | Path) -> None:
    """Mount as the program does, which says what is wrong."""
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
