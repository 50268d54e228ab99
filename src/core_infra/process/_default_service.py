"""The default service: one for the whole program, for those that need no other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from core_infra.errors import AlreadyExistsError, InvalidError
from core_infra.process._errors import ServiceNotInitializedError
from core_infra.process._service import Service

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from core_infra.framework._core import Core
    from core_infra.process._options import RunOptions
    from core_infra.process._process import Process

_default: Service | None = None
_lock = threading.Lock()


def init(core: Core) -> Service:
    """Create the default service, which publishes its events on the bus of *core*.

    The caller must also shut it down.

    Raises:
        AlreadyExistsError: there is one already.
    """
    global _default  # noqa: PLW0603 - one per program is the point
    with _lock:
        if _default is not None:
            raise AlreadyExistsError(
                "the default process service exists already",
                todo="Use default(), or set_default(service) to put another in its place.",
            )
        _default = Service(core)
        return _default


def set_default(service: Service) -> None:
    """Replace the default service by *service*, without shutting down the old one.

    Raises:
        InvalidError: it is not a Service.
    """
    global _default  # noqa: PLW0603 - one per program is the point
    if not isinstance(service, Service):
        raise InvalidError(f"the default process service cannot be {service!r}")
    with _lock:
        _default = service


def default() -> Service:
    """The default service.

    Raises:
        ServiceNotInitializedError: there is none yet.
    """
    if _default is None:
        raise ServiceNotInitializedError(
            "there is no default process service",
            todo="Call init(core) or set_default(service) first.",
            needed="initialized",
            found="not initialized",
        )
    return _default


def start(command: str | os.PathLike[str], *args: str | os.PathLike[str]) -> Process:
    """:meth:`Service.start` of the default service."""
    return default().start(command, *args)


def start_with_options(options: RunOptions) -> Process:
    """:meth:`Service.start_with_options` of the default service."""
    return default().start_with_options(options)


def run(command: str | os.PathLike[str], *args: str | os.PathLike[str]) -> str:
    """:meth:`Service.run` of the default service."""
    return default().run(command, *args)


def run_with_options(options: RunOptions) -> str:
    """:meth:`Service.run_with_options` of the default service."""
    return default().run_with_options(options)


def get(name: str) -> Process:
    """:meth:`Service.get` of the default service."""
    return default().get(name)


def running() -> Sequence[Process]:
    """:meth:`Service.running` of the default service."""
    return default().running()


def kill(name: str) -> None:
    """:meth:`Service.kill` of the default service."""
    default().kill(name)


def remove(name: str) -> None:
    """:meth:`Service.remove` of the default service."""
    default().remove(name)


def clear() -> None:
    """:meth:`Service.clear` of the default service."""
    default().clear()


def output(name: str) -> str:
    """:meth:`Service.output` of the default service."""
    return default().output(name)


def list() -> Sequence[Process]:  # noqa: A001 - the package is the namespace
    """:meth:`Service.list` of the default service."""
    return default().list()
