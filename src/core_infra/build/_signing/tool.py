"""Runs signing tools, and passes secrets to them safely."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, NamedTuple

import pexpect

from core_infra.build._errors import SigningError, SigningUnavailableError
from core_infra.errors import TimeoutExpiredError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from core_infra.build._secret import Secret

_TIMEOUT = 120.0
_OUTPUT_SHOWN = 2000
STATUS = "[GNUPG:] "
"""The prefix of gpg's status lines for programs, which are not shown to users."""


class ToolResult(NamedTuple):
    """The result of a tool.

    Attributes:
        exit_code: its exit code; the negative signal number if a signal ended it.
        stdout: its standard output.
        stderr: its standard error.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


@contextlib.contextmanager
def pipe_with(data: bytes) -> Iterator[int]:
    """Return the read end of a pipe with *data*, for ``pass_fds``."""
    reader, writer = os.pipe()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "wb", 0) as file:
            file.write(data)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join()


def run_tool(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    timeout: float = _TIMEOUT,
) -> ToolResult:
    """Run a tool without a terminal, and wait for it; the caller checks its exit code.

    Args:
        argv: the program and its arguments, without secrets.
        stdin: its standard input.
        env: additional environment variables.
        pass_fds: descriptors that it inherits.
        timeout: the limit, in seconds.

    Raises:
        SigningUnavailableError: the program is not installed.
        TimeoutExpiredError: it was killed, with its process group.
    """
    find_tool(argv[0])
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        pass_fds=pass_fds,
        start_new_session=True,
    )
    with process:
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            raise TimeoutExpiredError(
                f"{argv[0]} still ran after {timeout} s", todo="It may be waiting for input."
            ) from error
        except BaseException:
            _kill(process)
            raise
    return ToolResult(process.returncode, out, err)


def run_with_prompt(
    argv: Sequence[str], prompt: str, secret: Secret, *, timeout: float
) -> ToolResult:
    """Run a tool that prompts for a secret on the terminal, and wait for it.

    Args:
        argv: the program and its arguments.
        prompt: a regular expression for the prompt.
        secret: the answer.
        timeout: the limit, in seconds.

    Raises:
        SigningUnavailableError: the program is not installed.
        TimeoutExpiredError: it was killed.
    """
    find_tool(argv[0])
    child = pexpect.spawn(argv[0], list(argv[1:]), timeout=timeout, echo=False)
    child.logfile_read = output = io.BytesIO()
    try:
        if child.expect([prompt, pexpect.EOF]) == 0:
            child.sendline(secret.value)
            child.expect(pexpect.EOF)
    except pexpect.TIMEOUT as error:
        raise TimeoutExpiredError(f"{argv[0]} still ran after {timeout} s") from error
    finally:
        child.close(force=True)
    code = child.exitstatus if child.exitstatus is not None else -(child.signalstatus or 0)
    return ToolResult(code, output.getvalue(), b"")


def find_tool(name: str) -> str:
    """Return the path of a program.

    Raises:
        SigningUnavailableError: it is not on PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise SigningUnavailableError(
            f"signing needs {name}",
            why="it is not on PATH",
            todo=_HINTS.get(name, f"Install {name}, or disable this signature."),
            tool=name,
        )
    return found


def failed(
    what: str, argv: Sequence[str], ran: ToolResult, secrets: Sequence[Secret] = (), todo: str = ""
) -> SigningError:
    """Create the error for a tool that failed, with the end of its output and without secrets."""
    stdout, stderr = (_without(text, secrets) for text in (ran.stdout, ran.stderr))
    output = (stderr.strip() or stdout.strip()).decode(errors="replace")[-_OUTPUT_SHOWN:]
    output = "\n".join(line for line in output.splitlines() if not line.startswith(STATUS))
    return SigningError(
        what,
        why=f"{argv[0]} ended with exit code {ran.exit_code}: {output or 'without output'}",
        todo=todo,
        command=list(argv),
        exit_code=ran.exit_code,
        stdout=stdout,
        stderr=stderr,
    )


_HINTS = {
    "gpg": "Install it: apt-get install gpg gpg-agent",
    "osslsigncode": "Install it: apt-get install osslsigncode",
    "codesign": "It comes with Xcode, on macOS only.",
    "xcrun": "It comes with Xcode, on macOS only.",
    "signtool": "It comes with the Windows SDK; elsewhere osslsigncode signs.",
}


def _without(text: bytes, secrets: Sequence[Secret]) -> bytes:
    for secret in secrets:
        if secret:
            text = text.replace(secret.value.encode(), b"***")
    return text


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
