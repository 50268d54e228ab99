"""Unpacks the QEMU of another release next to the host's own, from the host's mirror.

Nothing is installed, and no root is needed: apt downloads the packages and all that they need, with
a state of its own, and checks their signatures. The programs get the unpacked libraries, the C
library among them, by their absolute paths. Prints the directory to put into PATH.
"""

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from takeover import NoSourceError, hosts_repositories

PACKAGES = {
    "x86_64": ["qemu-system-x86", "qemu-utils"],
    "aarch64": ["qemu-system-arm", "qemu-utils", "qemu-efi-aarch64"],
}
PROGRAMS = "qemu-*"
LOADERS = ("lib64/ld-linux-*", "usr/lib64/ld-linux-*", "lib/ld-linux-*", "usr/lib/ld-linux-*")
LIBRARIES = ("lib/*-linux-gnu", "usr/lib/*-linux-gnu", "usr/lib/*-linux-gnu/pulseaudio")


def main() -> int:
    """Unpack the missing packages."""
    parser = argparse.ArgumentParser(prog="qemu", description=__doc__)
    parser.add_argument("release", help="as bookworm, trixie")
    parser.add_argument("--cache", type=Path, required=True, help="where all of it goes")
    wanted = parser.parse_args()
    place = wanted.cache.resolve() / wanted.release
    place.mkdir(parents=True, exist_ok=True)
    try:
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            programs = unpacked(place, wanted.release)
    except NoSourceError as error:
        sys.stderr.write(f"qemu: {error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"qemu: {error}\n{error.stderr or ''}")
        return 1
    print(programs)
    return 0


def unpacked(place: Path, release: str) -> Path:
    """The directory of the programs; created again if the release has newer packages."""
    apt = configured(place, release)
    run("apt-get", "update", "-q", config=apt)
    names = PACKAGES[platform.machine()]
    uris = run("apt-get", "install", "-qq", "--print-uris", *names, config=apt)
    root, stamp = place / "root", place / "made-of"
    if not stamp.exists() or stamp.read_text() != uris:
        stamp.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)
        run("apt-get", "clean", config=apt)
        run("apt-get", "install", "-q", "-y", "--download-only", *names, config=apt)
        for package in sorted((place / "archives").glob("*.deb")):
            run("dpkg-deb", "--extract", str(package), str(root))
        run("apt-get", "clean", config=apt)
        link(root)
        stamp.write_text(uris)
    return root / "programs"


def configured(place: Path, release: str) -> Path:
    """An apt configuration with only that release, and without installed packages."""
    for name in ("lists/partial", "archives/partial", "parts"):
        (place / name).mkdir(parents=True, exist_ok=True)
    sources = place / "sources.list"
    sources.write_text("".join(f"{one.line(release)}\n" for one in hosts_repositories()))
    config = place / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{sources}";\n'
        f'Dir::Etc::sourceparts "{place}/parts";\n'
        f'Dir::State "{place}";\nDir::State::Lists "{place}/lists";\n'
        'Dir::State::Status "/dev/null";\n'
        f'Dir::Cache "{place}";\n'
        # As root, apt would download as a user who may not write here.
        'APT::Sandbox::User "root";\nAPT::Install-Recommends "false";\n'
        'Acquire::Languages "none";\nAPT::Update::Error-Mode "any";\n'
    )
    return config


def link(root: Path) -> None:
    """Make the programs find the libraries that were unpacked with them."""
    [loader, *_] = [path for pattern in LOADERS for path in root.glob(pattern)]
    libraries = ":".join(str(path) for pattern in LIBRARIES for path in root.glob(pattern))
    programs = root / "programs"
    programs.mkdir()
    for program in (root / "usr/bin").glob(PROGRAMS):
        with program.open("rb") as file:
            if program.is_symlink() or file.read(4) != b"\x7fELF":
                continue
        # Not RUNPATH: it does not apply to the libraries of libraries.
        linked = ("--force-rpath", "--set-rpath", libraries, str(program))
        run("patchelf", "--set-interpreter", str(loader), *linked)
        (programs / program.name).symlink_to(program)


def run(*command: str, config: Path | None = None) -> str:
    """Run a program, and return its output."""
    environment = os.environ | {"LC_ALL": "C"}
    if config is not None:
        environment["APT_CONFIG"] = str(config)
    return subprocess.run(
        command, env=environment, check=True, text=True, capture_output=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
