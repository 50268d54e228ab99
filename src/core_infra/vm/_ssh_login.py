"""A login by SSH into a machine that runs an SSH server: for ``ssh``, ``scp``, Ansible, …."""

from __future__ import annotations

import contextlib
import shlex
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from core_infra._unpatched import Path, tempfile
from core_infra.vm import _timeouts
from core_infra.vm._access.interface import NoAccessError
from core_infra.vm._access.ssh import SshAccess, make_key, public_key
from core_infra.vm._guest.waiting import SOCKETS, listening
from core_infra.vm._hardware import check_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._guest.results import ExecResult

_HOST = "127.0.0.1"
_KEY = "ssh-key"
_LOGIN = 30.0
"""Seconds, before scaling, that a login may take; the server may have to make a key first."""
_LOOK = 60.0

# Run as the user, who then owns the files. A server trusts no file that others may write to.
_AUTHORIZE = """\
umask 077
cd && mkdir -p .ssh && chmod go-w .ssh && cd .ssh && touch authorized_keys || exit
chmod go-w authorized_keys
grep -qxF "$1" authorized_keys && exit
[ -z "$(tail -c 1 authorized_keys)" ] || echo >>authorized_keys
printf '%s\\n' "$1" >>authorized_keys
"""

_making = threading.Lock()


@dataclass(frozen=True)
class SshLogin:
    """How to log in to a machine by SSH; ``str()`` of it is a line for a shell.

    The files are the machine's: they go when it does.

    Attributes:
        port: of this host's *host*; it leads to the server.
        user: the user to log in as.
        key: the file with the private key.
        known_hosts: the file with the server's key.
        host: this host's loopback address.
    """

    port: int
    user: str
    key: Path
    known_hosts: Path
    host: str = _HOST

    @property
    def options(self) -> list[str]:
        """Arguments for ``ssh``, ``scp``, ``sftp``, or ``rsync -e``.

        The user's own configuration, keys and agent are ignored, and nothing is prompted for.
        """
        settings = {
            "Port": self.port,
            "User": self.user,
            "IdentityFile": _quoted(self.key),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": _quoted(self.known_hosts),
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
        }
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        return ["-F", "none", *options]

    def command(self, command: str | Sequence[str] = ()) -> list[str]:
        """The arguments that run ``ssh``, for ``subprocess``.

        Args:
            command: a line for the shell of the user, or a sequence of arguments, passed as they
                are; nothing opens a shell.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        return ["ssh", *self.options, self.host, *([line] if line else [])]

    def scp(self, *paths: str) -> list[str]:
        """The arguments that run ``scp`` with *paths*; those in the guest begin with ``:``."""
        named = [f"{self.host}{path}" if path.startswith(":") else path for path in paths]
        return ["scp", *self.options, *named]

    def __str__(self) -> str:
        return shlex.join(self.command())


class Reachable(Protocol):
    """The part of a machine that a login needs."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def directory(self) -> Path:
        """The directory for the login's files."""

    def port(self, number: int) -> int:
        """The port of this host that leads to this port of the guest."""


def log_in(machine: Reachable, user: str, port: int, run: Callable[..., ExecResult]) -> SshLogin:
    """See :meth:`core_infra.vm._machine.Machine.ssh`; *run* is :meth:`Guest.exec`, unseen."""
    check_port(port)
    key = _key(machine.directory)
    line = public_key(key)
    limit = _timeouts.scaled(_LOOK)
    if port not in listening(run(SOCKETS, limit).stdout):
        raise NoAccessError(
            f"cannot log in to machine {machine.name} by SSH",
            why=f"nothing there listens on port {port}",
            todo=f"Install and start an SSH server there, for example in prepare(); if it is just "
            f"starting, wait_for_port({port}) first. exec() and push() need no server.",
        )
    done = run(["/bin/sh", "-c", _AUTHORIZE, "sh", line], limit, user=user)
    if done.exit_code != 0:
        raise NoAccessError(
            f"cannot add a key for {user} in machine {machine.name}",
            why=done.stderr.strip() or f"the shell ended with exit code {done.exit_code}",
            todo="It goes into ~/.ssh/authorized_keys, written as that user.",
        )
    host_port = machine.port(port)
    known_hosts = machine.directory / f"ssh-known-hosts-{host_port}"
    patience = _timeouts.scaled(_LOGIN)
    with tempfile.TemporaryDirectory(dir=machine.directory) as directory:
        pinned = Path(directory, "key")
        try:
            access = SshAccess(
                host_port, user=user, key=key, pinned=pinned, timeout=patience, login=patience
            )
        except NoAccessError as error:
            raise NoAccessError(
                f"the SSH server of machine {machine.name} does not let {user} in",
                why=error.why,
                todo="It must listen on the machine's network address and take the keys of "
                "~/.ssh/authorized_keys; its log says more.",
            ) from error
        with contextlib.closing(access):
            part = pinned.with_name("known_hosts")
            part.write_text(f"[{_HOST}]:{host_port} {pinned.read_text()}")
            part.replace(known_hosts)
    return SshLogin(host_port, user, key, known_hosts)


def _key(directory: Path) -> Path:
    """The machine's private key, made at the first call."""
    path = directory / _KEY
    with _making:
        if not path.exists():
            part = path.with_suffix(".part")
            make_key(part)
            part.replace(path)
    return path


def _quoted(path: Path) -> str:
    """As a word of ssh_config(5), which expands percent signs."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'
