"""Runs the README's commands on a bare Debian: debootstrap's system, python3, and a clone of this.

Each release and user gets a new root, and each command is started as by nohup. The clone has only
committed files.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inside import NAMESPACES, Order
from takeover import NoSourceError, environment, hosts_repositories, take_over

PROJECT = Path(__file__).resolve().parents[1]
RELEASES = ["bookworm", "trixie"]
COMMANDS = ["python3 bootstrap.py demo", "python3 bootstrap.py tests"]
MONTH = 30 * 24 * 3600


@dataclass(frozen=True)
class User:
    """The user who runs the commands."""

    name: str
    uid: int
    home: str
    path: str

    def environment(self) -> dict[str, str]:
        """The environment after login."""
        own = {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "PATH": self.path}
        return own | {"SHELL": "/bin/sh", "TERM": "xterm"} | environment()


SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USERS = {
    "root": User("root", 0, "/root", SYSTEM),
    "user": User("user", 1000, "/home/user", "/usr/local/bin:/usr/bin:/bin"),
}
# An ordinary user with sudo, as Debian's installer creates; debootstrap does not.
ADD_USER = """\
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends sudo >/dev/null
useradd --create-home --shell /bin/bash --uid 1000 user
echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/user
chown -R user:user /home/user
"""


class FreshError(Exception):
    """The run failed; the message is for the user."""


def main() -> int:
    """Run all requested commands, and print a summary."""
    wanted = parse_arguments()
    # The default action of SIGTERM would leave the root behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results: list[tuple[int, str]] = []
    try:
        with alone(wanted.cache):
            for release in wanted.release or RELEASES:
                for name in wanted.users or USERS:
                    results += try_out(wanted, release, USERS[name])
    except (FreshError, NoSourceError) as error:
        sys.stderr.write(f"fresh: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nfresh: interrupted; nothing is left mounted or running\n")
        return 130
    print(*(line for _, line in results), sep="\n")
    return int(any(code for code, _ in results))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="fresh", description=__doc__)
    add = parser.add_argument
    add("release", nargs="*", help=f"Debian's name of it; otherwise {' and '.join(RELEASES)}")
    add("--as", dest="users", action="append", choices=USERS, help="otherwise as both")
    add("--run", dest="commands", action="append", help=f"otherwise {' and '.join(COMMANDS)}")
    add("--keep", action="store_true", help="leave each root, to look into it")
    add("--cache", type=Path, required=True, help="where roots, packages and logs are")
    return parser.parse_args()


@contextlib.contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Check the requirements, lock the cache, and remove the remains of killed runs."""
    if os.geteuid() != 0:
        raise FreshError("only root can make a root: sudo python3 bootstrap.py fresh")
    for program in ("debootstrap", "git", "setpriv", "tar", "unshare"):
        if shutil.which(program) is None:
            raise FreshError(f"the program {program} is missing: apt-get install {program}")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FreshError(f"another run uses {cache}") from None
        for left in cache.glob("root-*"):
            shutil.rmtree(left)
        yield


def try_out(wanted: argparse.Namespace, release: str, user: User) -> list[tuple[int, str]]:
    """Run the commands one after another in a new root; returns exit codes and summary lines."""
    cache: Path = wanted.cache
    results = []
    system = tarball(cache, release)
    with new_root(cache, f"{release}-{user.name}", keep=wanted.keep) as root:
        run(["tar", "-xpf", str(system), "--numeric-owner", "-C", str(root)])
        order = prepare(root, release, user, cache)
        for number, command in enumerate(wanted.commands or COMMANDS):
            say(f"{release}, {user.name}: {command}")
            order.argv = ["sh", "-c", command]
            log = cache / f"{release}-{user.name}-{number}.log"
            began = time.monotonic()
            code = run(order.command(), log, check=False)
            minutes = (time.monotonic() - began) / 60
            outcome = "passed" if code == 0 else f"FAILED, {code}"
            line = f"{release:9} {user.name}  {outcome:12} {minutes:5.1f} min  {command}  ({log})"
            results.append((code, line))
    return results


@contextlib.contextmanager
def new_root(cache: Path, name: str, *, keep: bool) -> Iterator[Path]:
    """Create a directory for a system; it is removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix=f"root-{name}-", dir=cache))
    root.chmod(0o755)
    try:
        yield root
    finally:
        if keep:
            kept = root.rename(root.with_name(f"kept-{root.name}"))
            say(f"kept: chroot {kept}")
        else:
            say("removing the root")
            shutil.rmtree(root)


def tarball(cache: Path, release: str) -> Path:
    """The archive of debootstrap's system; created again after a month."""
    made = cache / f"{release}.tar"
    if made.exists() and made.stat().st_mtime > time.time() - MONTH:
        return made
    mirror = hosts_repositories()[0].uri
    with new_root(cache, release, keep=False) as root:
        say(f"debootstrap {release} from {mirror} (once; minutes)")
        debootstrap = ["debootstrap", "--variant=minbase", "--include=python3"]
        run([*NAMESPACES, *debootstrap, release, str(root), mirror])
        archives = "./var/cache/apt/archives/*.deb"
        unfinished = f"{made}.new"
        run(["tar", "-cf", unfinished, "--exclude", archives, "-C", str(root), "."])
    return Path(unfinished).rename(made)


def prepare(root: Path, release: str, user: User, cache: Path) -> Order:
    """Set up the root: package sources, an account, a clone."""
    directories = take_over(root, release)
    archives = cache / f"archives-{release}"
    archives.mkdir(exist_ok=True)
    order = Order(
        root=str(root),
        argv=["sh", "-ec", ADD_USER],
        env=USERS["root"].environment(),
        read_only=directories,
        writable={"/var/cache/apt/archives": str(archives)},
    )
    if user.uid != 0:
        say(f"{release}: a user with sudo")
        run(order.command())
    place = f"{user.home}/{PROJECT.name}"
    run(["git", "clone", "-q", "--no-hardlinks", str(PROJECT), f"{root}{place}"])
    run(["chown", "-R", f"{user.uid}:{user.uid}", f"{root}{place}"])
    order.cwd, order.uid, order.env = place, user.uid, user.environment()
    return order


def run(command: list[str], log: Path | None = None, *, check: bool = True) -> int:
    """Run a program, its output here and in the log; with `check`, it must not fail.

    It does not get our Ctrl-C, as it is to be killed with all that it has started.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        with process.stdout as output, (log or Path(os.devnull)).open("wb") as file:
            while piece := os.read(output.fileno(), 1 << 16):
                file.write(piece)
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        code = process.wait()
    finally:
        process.kill()
        process.wait()
    if check and code != 0:
        raise FreshError(f"{' '.join(command)} failed: exit code {code}")
    return code


def say(line: str) -> None:
    """Announce a step."""
    print(f"==> {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
