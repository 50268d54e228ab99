"""Programs that cannot be started: the error names what is missing or too much."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest

from core_infra.process import (
    CannotStartError,
    ProgramNotFoundError,
    RunOptions,
    Service,
    Status,
)


@pytest.mark.parametrize(
    ("command", "directory", "error", "expected"),
    [
        ("no-such-program", None, ProgramNotFoundError, "no-such-program"),
        ("/no/such/program", None, FileNotFoundError, "/no/such/program"),
        ("true", "/no/such/directory", ProgramNotFoundError, "/no/such/directory"),
        ("/etc/passwd", None, CannotStartError, "Permission denied"),
    ],
)
def test_what_cannot_be_started_is_an_error(
    service: Service, command: str, directory: str | None, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        service.start_with_options(RunOptions(command, dir=directory))
    [process] = service.list()
    assert process.status is Status.FAILED
    assert process.exit_code is None
    assert process.done.is_set()
    assert isinstance(process.error, error)
    with pytest.raises(error, match=expected):
        process.wait()
    with pytest.raises(error, match=expected):
        service.run_with_options(RunOptions(command, dir=directory))


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"#!/no/such/interpreter\n", 0o755, "interpreter of .*/program is not there: /no/such"),
        (b"#!/bin/sh\r\n", 0o755, "ends in CR LF"),
        (b"#!/bin/sh\n", 0o644, "program is not executable"),
        (b"echo text\n", 0o755, "neither a program nor a script"),
        (b"\x7fELF\x02\x01\x01" + bytes(57), 0o755, "built for another kind of processor"),
        (None, 0o755, "program is a directory"),
    ],
)
def test_the_error_has_what_keeps_a_program_from_starting(
    service: Service, tmp_path: Path, content: bytes | None, mode: int, expected: str
) -> None:
    program = tmp_path / "program"
    if content is None:
        program.mkdir()
    else:
        program.write_bytes(content)
    program.chmod(mode)
    for command in (str(program), "program"):
        with pytest.raises((ProgramNotFoundError, CannotStartError), match=expected):
            service.run_with_options(RunOptions(command, env={"PATH": str(tmp_path)}))


def test_what_the_system_cannot_be_given_is_named(service: Service, tmp_path: Path) -> None:
    long = "x" * 200_000
    loop = tmp_path / "loop"
    loop.write_text(f"#!{loop}\n")
    loop.chmod(0o755)
    for options, expected in (
        (RunOptions("true", pass_fds=[0, 99_999]), r"pass_fds has \[99999\], not open"),
        (RunOptions("true", ["-n", long]), "argument 2 has 200000 bytes"),
        (RunOptions("true", env={"LONG": long}), "variable LONG has 200005 bytes"),
        (RunOptions(loop), "is a script for a script"),
    ):
        with pytest.raises(CannotStartError, match=expected):
            service.run_with_options(options)


def test_as_many_descriptors_as_allowed_are_passed(service: Service) -> None:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(248)]
    try:
        script = f"for fd in {' '.join(map(str, fds))}; do test -e /proc/self/fd/$fd || exit; done"
        options = RunOptions("sh", ["-c", f"{script}; echo all"], pass_fds=fds)
        assert service.run_with_options(options) == "all\n"
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("place", ["as it was linked", "at the end, as patchelf does"])
def test_the_error_has_a_missing_loader(service: Service, tmp_path: Path, place: str) -> None:
    binary = Path("/bin/true").read_bytes()
    found = re.search(rb"/lib[^\0]*/ld-[^\0]*\0", binary)
    assert found is not None
    missing = b"/no" + found[0][3:]
    if place.startswith("at the end"):
        header = struct.pack("=IIQ", 3, 4, found.start())  # a program header: PT_INTERP, readable
        assert header in binary
        binary = binary.replace(header, struct.pack("=IIQ", 3, 4, len(binary)), 1) + missing
    else:
        binary = binary.replace(found[0], missing, 1)
    (tmp_path / "program").write_bytes(binary)
    (tmp_path / "program").chmod(0o755)
    with pytest.raises(ProgramNotFoundError, match=r"loader of .*/program is not there: /no"):
        service.run(tmp_path / "program")
