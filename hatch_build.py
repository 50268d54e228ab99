"""Compiles what we have in C when the package is built or installed.

The guest agent runs inside guests of two architectures, whatever the host is, so a cross compiler
is needed: Zig, which PyPI carries as ``ziglang``. The keeper of processes runs on the host, and the
fork server is a library for the host's QEMU; they are made for both, so that one wheel fits all.
The compiler is asked for only while the binaries are older than their sources. By hand:
``python hatch_build.py``.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = ("x86_64", "aarch64")
FLAGS = (
    *("-std=gnu11", "-D_GNU_SOURCE", "-Os", "-s"),
    *("-flto", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"),
    *("-Wall", "-Wextra", "-Werror"),
)


class Kind(NamedTuple):
    """What becomes of sources: the system they are compiled for, how, and the file's suffix."""

    system: str
    flags: tuple[str, ...]
    suffix: str


STATIC = Kind("linux-musl", ("-static",), "")
# For programs of Debian 11, Ubuntu 20.04, or later. All symbols are bound at the start: binding
# one when it is first used takes more stack than a thread of the fork server may have.
PRELOADED = Kind("linux-gnu.2.31", ("-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-z,now"), ".so")
UBSAN_TRAP = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
PROGRAMS = {
    "agent": Path("src/core_infra/vm/guest/agent"),
    "keeper": Path("src/core_infra/process/keeper"),
    "forkserver": Path("src/core_infra/vm/hypervisors/forkserver/library"),
}
"""The directories of their sources; what is made of them goes to ``bin`` beside these."""
KINDS = {"agent": STATIC, "keeper": STATIC, "forkserver": PRELOADED}
COMPILER = "ziglang>=0.13"


class CustomBuildHook(BuildHookInterface[BuilderConfig]):
    """What hatchling calls for a wheel and for an editable install."""

    def dependencies(self) -> list[str]:
        """The compiler, if there is something to compile."""
        return [] if is_fresh(Path(self.root)) else [COMPILER]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile what is stale; the wheel takes the binaries as artifacts."""
        build(Path(self.root))


def is_fresh(root: Path) -> bool:
    """Whether the binaries are there and made from the sources as they are now."""
    return not _stale(root)


def build(root: Path) -> None:
    """Compile what is stale, for each architecture."""
    # At once: the first time, Zig makes a C library for each target, which takes a minute.
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda what: _compile_and_stamp(root, *what), _stale(root)):
            pass


def _stale(root: Path) -> list[tuple[str, str]]:
    every = [(program, arch) for program in PROGRAMS for arch in ARCHITECTURES]
    return [what for what in every if not _is_fresh(root, *what)]


def _compile_and_stamp(root: Path, program: str, arch: str) -> None:
    fingerprint = _fingerprint(root, program, arch)
    compile_program(root, program, arch, binary_path(root, program, arch))
    stamp = _stamp(root, program, arch)
    fresh = stamp.with_suffix(f".{os.getpid()}")
    fresh.write_text(fingerprint)
    fresh.replace(stamp)


def compile_program(root: Path, program: str, arch: str, output: Path, *flags: str) -> None:
    """Compile a program for *arch* to the file *output*, with *flags* besides the usual ones."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        binary = Path(scratch) / program
        kind = KINDS[program]
        command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-{kind.system}"]
        sources = [os.fspath(path) for path in _sources(root, program) if path.suffix == ".c"]
        result = subprocess.run(
            [*command, *FLAGS, *kind.flags, *flags, "-o", os.fspath(binary), *sources],
            check=False,
            capture_output=True,
            text=True,
        )
        if result.returncode != 0:
            message = f"cannot compile the {program} for {arch}:\n{result.stdout}{result.stderr}"
            raise RuntimeError(message)
        # Two builds at once each put a whole file here; the later one wins, and they are alike.
        binary.replace(output)


def _sources(root: Path, program: str) -> list[Path]:
    return sorted((root / PROGRAMS[program]).glob("*.[ch]"))


def _fingerprint(root: Path, program: str, arch: str) -> str:
    digest = hashlib.sha256(repr((arch, FLAGS, KINDS[program])).encode())
    for path in _sources(root, program):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _is_fresh(root: Path, program: str, arch: str) -> bool:
    stamp = _stamp(root, program, arch)
    return (
        binary_path(root, program, arch).is_file()
        and stamp.is_file()
        and stamp.read_text() == _fingerprint(root, program, arch)
    )


def binary_path(root: Path, program: str, arch: str) -> Path:
    """Where a program for *arch* is, once it is made."""
    return root / PROGRAMS[program].parent / "bin" / f"{program}-{arch}{KINDS[program].suffix}"


def _stamp(root: Path, program: str, arch: str) -> Path:
    return root / PROGRAMS[program].parent / "bin" / f".{arch}.stamp"


if __name__ == "__main__":
    build(Path(__file__).resolve().parent)
