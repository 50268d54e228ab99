"""Running signing tools, which must be given secrets that nobody else sees."""

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
"""How gpg's words for programs begin, which are no help to people."""


class Ran(NamedTuple):
    """What a tool did.

    Attributes:
        exit_code: its exit code; minus the signal's number if a signal ended it.
        stdout: what it wrote to standard output.
        stderr: what it wrote to standard error.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


@contextlib.contextmanager
def pipe_with(data: bytes) -> Iterator[int]:
    """Give the reading end of a pipe from which *data* can be read; for ``pass_fds``."""
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
) -> Ran:
    """Run a tool to its end, without a terminal; its exit code is the caller's business.

    Args:
        argv: the program and its arguments, none of them secret.
        stdin: what it reads.
        env: added to our environment.
        pass_fds: descriptors that it inherits.
        timeout: seconds.

    Raises:
        SigningUnavailableError: the program is not there.
        TimeoutExpiredError: it was killed, with all of its group.
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
                f"{argv[0]} still ran after {timeout} s", todo="Does it wait for someone?"
            ) from error
        except BaseException:
            _kill(process)
            raise
    return Ran(process.returncode, out, err)


def run_asked(argv: Sequence[str], prompt: str, secret: Secret, *, timeout: float) -> Ran:
    """Run a tool that asks the terminal for a secret, to its end.

    Args:
        argv: the program and its arguments.
        prompt: a regular expression for what it asks.
        secret: the answer.
        timeout: seconds.

    Raises:
        SigningUnavailableError: the program is not there.
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
    return Ran(code, output.getvalue(), b"")


def find_tool(name: str) -> str:
    """The path of a program.

    Raises:
        SigningUnavailableError: it is not on PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise SigningUnavailableError(
            f"signing needs {name}",
            why="there is no such program on PATH",
            todo=_HINTS.get(name, f"Install {name}, or do not ask for this signature."),
            tool=name,
        )
    return found


def failed(
    what: str, argv: Sequence[str], ran: Ran, secrets: Sequence[Secret] = (), todo: str = ""
) -> SigningError:
    """Make the error for a tool that failed, with its last words and without any secret."""
    stdout, stderr = (_without(text, secrets) for text in (ran.stdout, ran.stderr))
    said = (stderr.strip() or stdout.strip()).decode(errors="replace")[-_OUTPUT_SHOWN:]
    said = "\n".join(line for line in said.splitlines() if not line.startswith(STATUS))
    return SigningError(
        what,
        why=f"{argv[0]} ended with exit code {ran.exit_code}: {said or 'it said nothing'}",
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
