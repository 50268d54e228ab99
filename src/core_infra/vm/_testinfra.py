"""A machine as a host of pytest-testinfra, whose commands run by :meth:`Guest.exec`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from core_infra.vm._guest.guest import Guest

_LACKING = {
    "service": "no services: a command is started by exec",
    "package": "no packages: it is busybox and core-infra's agent",
}


def host(guest: Guest, name: str, user: str) -> Any:
    """A ``testinfra.host.Host``.

    Args:
        guest: the machine.
        name: what the host is called.
        user: whom its commands run as; empty: root.

    Raises:
        UnavailableError: pytest-testinfra is not installed.
    """
    try:
        base = importlib.import_module("testinfra.backend.base")
        hosts = importlib.import_module("testinfra.host")
    except ImportError as error:
        raise UnavailableError(
            "cannot make a host of testinfra",
            why="it is not installed",
            todo="Install it with: pip install core-infra[testinfra]",
        ) from error

    class Backend(base.BaseBackend):  # type: ignore[misc,name-defined] # known at run time only
        """Runs the commands of testinfra's modules in the machine."""

        NAME = "core-infra"

        def run(self, command: str, *args: str, **_: Any) -> Any:
            """Run a line of the shell, with quoted arguments put into it."""
            line = self.get_command(command, *args)
            done = guest.exec(line, user=user)
            return self.result(
                done.exit_code, self.encode(line), done.stdout_bytes, done.stderr_bytes
            )

    class Host(hosts.Host):  # type: ignore[misc,name-defined] # the same
        """Reports what the default image lacks; testinfra would name another system's tools."""

        def __getattr__(self, module: str) -> Any:
            if module in _LACKING and self.system_info.distribution == "core-infra":
                raise UnavailableError(
                    f"cannot look at a {module} of machine {name}",
                    why=f"the default image has {_LACKING[module]}",
                    todo="Use an image of your own, as --core-vm-image=PATH; or ask for what is "
                    "there: host.file, host.socket, host.run.",
                )
            return super().__getattr__(module)

    return Host(Backend(name))
