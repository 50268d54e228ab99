"""Compiles the guest agent when the package is built or installed.

The agent (``src/core_infra/vm/guest/agent``) is C and runs inside guests of two architectures,
whatever the host is, so a cross compiler is needed: Zig, which PyPI carries as ``ziglang``. It is
asked for only while the binaries are older than their sources. By hand: ``python hatch_build.py``.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = ("x86_64", "aarch64")
FLAGS = (
    *("-std=gnu11", "-D_GNU_SOURCE", "-Os", "-static", "-s"),
    *("-flto", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"),
    *("-Wall", "-Wextra", "-Werror"),
)
UBSAN_TRAP = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
GUEST = Path("src/core_infra/vm/guest")
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
    return all(_is_fresh(root, arch) for arch in ARCHITECTURES)


def build(root: Path) -> None:
    """Compile the agent for each architecture; does nothing while the binaries are fresh."""
    stale = [arch for arch in ARCHITECTURES if not _is_fresh(root, arch)]
    # At once: the first time, Zig makes a C library for each target, which takes a minute.
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda arch: _compile_and_stamp(root, arch), stale):
            pass


def _compile_and_stamp(root: Path, arch: str) -> None:
    fingerprint = _fingerprint(root, arch)
    compile_agent(root, arch, _binary(root, arch))
    fresh = _stamp(root, arch).with_suffix(f".{os.getpid()}")
    fresh.write_text(fingerprint)
    fresh.replace(_stamp(root, arch))


def compile_agent(root: Path, arch: str, output: Path, *flags: str) -> None:
    """Compile the agent for *arch* to the file *output*, with *flags* besides the usual ones."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        binary = Path(scratch) / "agent"
        command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-linux-musl"]
        sources = [os.fspath(path) for path in _sources(root) if path.suffix == ".c"]
        result = subprocess.run(
            [*command, *FLAGS, *flags, "-o", os.fspath(binary), *sources],
            check=False,
            capture_output=True,
            text=True,
        )
        if result.returncode != 0:
            message = f"cannot compile the guest agent for {arch}:\n{result.stdout}{result.stderr}"
            raise RuntimeError(message)
        # Two builds at once each put a whole file here; the later one wins, and they are alike.
        binary.replace(output)


def _sources(root: Path) -> list[Path]:
    return sorted((root / GUEST / "agent").glob("*.[ch]"))


def _fingerprint(root: Path, arch: str) -> str:
    digest = hashlib.sha256(repr((arch, FLAGS)).encode())
    for path in _sources(root):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _is_fresh(root: Path, arch: str) -> bool:
    binary, stamp = _binary(root, arch), _stamp(root, arch)
    return binary.is_file() and stamp.is_file() and stamp.read_text() == _fingerprint(root, arch)


def _binary(root: Path, arch: str) -> Path:
    return root / GUEST / "bin" / f"agent-{arch}"


def _stamp(root: Path, arch: str) -> Path:
    return root / GUEST / "bin" / f".{arch}.stamp"


if __name__ == "__main__":
    build(Path(__file__).resolve().parent)
