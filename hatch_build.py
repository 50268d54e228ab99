"""Compiles the programs in C when the package is built or installed, and names the wheel.

The agent and the init run inside guests of two architectures, whatever the host is, so this needs
a cross compiler: Zig, which PyPI carries as ``ziglang``. The reaper and the fork server run on the
host. The sources are in ``csrc``, a directory for each program; the binaries go to
``src/core_infra/bin``. The compiler is required only if a binary is missing or was made from other
sources. By hand: ``python hatch_build.py``.

If Zig is not available, CORE_INFRA_CC names a C compiler of the host: it compiles the programs that
run on the host, and those for guests of its architecture. A build without isolation uses ``cc``
if Zig is not installed.

A wheel has the programs of guests, and those of one platform, which its tag names. CORE_INFRA_WHEEL
selects another platform than this host's: one of PLATFORMS.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHITECTURES = ("x86_64", "aarch64")
FLAGS = (
    *("-std=gnu11", "-D_GNU_SOURCE", "-Os", "-s"),
    *("-flto", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"),
    *("-Wall", "-Wextra"),
)
COMPILER = "ziglang>=0.13,<0.18"
STRICT = ("-Werror",)  # of the compiler whose warnings we know
OWN_COMPILER = "CORE_INFRA_CC"
CHOSEN_PLATFORM = "CORE_INFRA_WHEEL"
PLATFORMS = (
    "manylinux_2_31_x86_64",
    "manylinux_2_31_aarch64",
    "musllinux_1_2_x86_64",
    "musllinux_1_2_aarch64",
    "any",
)
"""Wheels: for hosts with the GNU C library 2.31 or later, with musl, and for all others.

The last has the programs of guests only: no program of it runs on the host.
"""
_GLIBC = (2, 31)


class Kind(NamedTuple):
    """How a program is compiled: for which system, with which flags, and the file's suffix."""

    system: str
    flags: tuple[str, ...]
    suffix: str


STATIC = Kind("linux-musl", ("-static",), "")
# For programs of Debian 11, Ubuntu 20.04, or later. All symbols are bound at the start: binding
# one when it is first used takes more stack than a thread of the fork server may have.
PRELOADED = Kind("linux-gnu.2.31", ("-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-z,now"), ".so")
UBSAN_TRAP = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
SOURCES = Path("csrc")
SHARED = SOURCES / "common"  # headers that several programs include
BINARIES = Path("src/core_infra/bin")
PROGRAMS = {
    "agent": STATIC,
    "init": STATIC,
    "reaper": STATIC,
    "switch": STATIC,
    "forkserver": PRELOADED,
}
"""The programs, each named like the directory of its sources, and how they are compiled."""
GUEST_PROGRAMS = ("agent", "init")
"""Those that run in guests, of each architecture."""


class CustomBuildHook(BuildHookInterface[BuilderConfig]):
    """The hook that hatchling calls for a wheel and for an editable install."""

    def dependencies(self) -> list[str]:
        """Zig, if a program must be compiled and no other compiler is chosen."""
        root = Path(self.root)
        if OWN_COMPILER in os.environ or is_fresh(root, programs_for(_platform())):
            return []
        return [COMPILER]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile stale programs, add the binaries to the wheel, and set the wheel's tag."""
        root = Path(self.root)
        if version == "editable":
            build(root)
            return
        chosen = _platform()
        programs = programs_for(chosen)
        build(root, programs)
        paths = (binary_path(root, *what) for what in programs)
        build_data["artifacts"] += [f"/{path.relative_to(root)}" for path in paths if path.exists()]
        if chosen != "any":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{chosen}"


def programs_for(chosen: str) -> list[tuple[str, str]]:
    """The programs that a wheel for a platform has, each with an architecture."""
    programs = [(name, arch) for name in GUEST_PROGRAMS for arch in ARCHITECTURES]
    if chosen != "any":
        arch = next(arch for arch in ARCHITECTURES if chosen.endswith(arch))
        programs += [("reaper", arch), ("switch", arch)]
        if chosen.startswith("manylinux"):
            programs.append(("forkserver", arch))
    return programs


def _platform() -> str:
    """The platform that the wheel is for: the chosen one, or this host's."""
    chosen = os.environ.get(CHOSEN_PLATFORM)
    if chosen is None:
        return _host_platform()
    if chosen not in PLATFORMS:
        message = f"{CHOSEN_PLATFORM} is {chosen!r}, but must be one of {', '.join(PLATFORMS)}"
        raise ValueError(message)
    return chosen


def _host_platform() -> str:
    arch = platform.machine()
    if not sys.platform.startswith("linux") or arch not in ARCHITECTURES:
        return "any"
    library, version = platform.libc_ver()
    if library != "glibc":  # musl does not say what it is
        return f"musllinux_1_2_{arch}"
    numbers = tuple(int(number) for number in version.split(".")[:2])
    return f"manylinux_2_31_{arch}" if numbers >= _GLIBC else f"linux_{arch}"


def _all_programs() -> list[tuple[str, str]]:
    return [(program, arch) for program in PROGRAMS for arch in ARCHITECTURES]


def is_fresh(root: Path, programs: list[tuple[str, str]] | None = None) -> bool:
    """Whether the binaries exist and were made from the current sources."""
    return not _stale(root, programs)


def build(root: Path, programs: list[tuple[str, str]] | None = None) -> None:
    """Compile the stale ones of some programs, each with an architecture; by default of all."""
    stale = _stale(root, programs)
    if not stale:
        return
    if (compiler := _own_compiler()) is not None:
        for program, arch in stale:
            if arch != platform.machine():
                sys.stderr.write(
                    f"no {program} for {arch}: {compiler[0]} does not compile for it\n"
                )
        stale = [what for what in stale if what[1] == platform.machine()]
    # At once: the first time, Zig makes a C library for each target, which takes a minute.
    with _zig_cache(), ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda what: _compile_and_stamp(root, *what), stale):
            pass


def _own_compiler() -> list[str] | None:
    """The host's compiler and its first arguments; None: use Zig."""
    if OWN_COMPILER in os.environ:
        return shlex.split(os.environ[OWN_COMPILER]) or ["cc"]
    if importlib.util.find_spec("ziglang") is None and shutil.which("cc") is not None:
        return ["cc"]
    return None


@contextlib.contextmanager
def _zig_cache() -> Iterator[None]:
    """Give Zig a directory for its cache if it would find none: without HOME, it fails."""
    places = ("ZIG_GLOBAL_CACHE_DIR", "XDG_CACHE_HOME", "HOME")
    if any(os.environ.get(name) for name in places):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="zig-cache-") as directory:
        os.environ["ZIG_GLOBAL_CACHE_DIR"] = directory
        try:
            yield
        finally:
            del os.environ["ZIG_GLOBAL_CACHE_DIR"]


def _stale(root: Path, programs: list[tuple[str, str]] | None) -> list[tuple[str, str]]:
    wanted = _all_programs() if programs is None else programs
    return [what for what in wanted if not _is_fresh(root, *what)]


def _compile_and_stamp(root: Path, program: str, arch: str) -> None:
    fingerprint = _fingerprint(root, program, arch)
    compile_program(root, program, arch, binary_path(root, program, arch))
    stamp = _stamp(root, program, arch)
    fresh = stamp.with_suffix(f".{os.getpid()}")
    fresh.write_text(fingerprint)
    fresh.replace(stamp)


def compile_program(root: Path, program: str, arch: str, output: Path, *flags: str) -> None:
    """Compile a program for *arch* to the file *output*, with the usual flags and *flags*."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        binary = Path(scratch) / program
        kind = PROGRAMS[program]
        command = _own_compiler()
        if command is None:
            target = f"{arch}-{kind.system}"
            command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *STRICT]
        sources = [os.fspath(path) for path in _sources(root, program) if path.suffix == ".c"]
        include = ("-I", os.fspath(root / SHARED))
        try:
            result = subprocess.run(
                [
                    *command,
                    *FLAGS,
                    *include,
                    *kind.flags,
                    *flags,
                    "-o",
                    os.fspath(binary),
                    *sources,
                ],
                check=False,
                capture_output=True,
                text=True,
            )
        except OSError as error:
            message = f"cannot compile the {program} for {arch}: cannot start {command[0]}: {error}"
            raise RuntimeError(message) from error
        if result.returncode != 0:
            message = f"cannot compile the {program} for {arch}:\n{result.stdout}{result.stderr}"
            raise RuntimeError(message)
        # Two builds at once each put a whole file here; the later one wins, and they are alike.
        binary.replace(output)


def _sources(root: Path, program: str) -> list[Path]:
    directories = (root / SOURCES / program, root / SHARED)
    return sorted(path for directory in directories for path in directory.glob("*.[ch]"))


def _fingerprint(root: Path, program: str, arch: str) -> str:
    digest = hashlib.sha256(repr((arch, FLAGS, PROGRAMS[program])).encode())
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
    """The path of a compiled program for *arch*."""
    return root / BINARIES / f"{program}-{arch}{PROGRAMS[program].suffix}"


def _stamp(root: Path, program: str, arch: str) -> Path:
    return root / BINARIES / f".{program}-{arch}.stamp"


if __name__ == "__main__":
    build(Path(__file__).resolve().parent)
