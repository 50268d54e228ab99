"""Named services: created, started, looked up, and shut down in reverse order."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

from core_infra.errors import AlreadyExistsError, InvalidError, NotFoundError, WrongStateError
from core_infra.framework._bus import Bus
from core_infra.framework._errors import ShutdownError, StartupError, is_fatal, together
from core_infra.framework._handlers import is_async, refuse_coroutine

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")


class CoreStatus(enum.Enum):
    """The states of a core, in order."""

    MAKING = "making"
    """The factories are running."""
    MADE = "made"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@runtime_checkable
class Startable(Protocol):
    """A service that has something to do when its core starts."""

    def on_startup(self) -> None:
        """Start; called after the services before this one have started.

        If it raises, its ``on_shutdown`` is not called, so it must clean up after itself first.
        """


@runtime_checkable
class Stoppable(Protocol):
    """A service that has something to do when its core shuts down."""

    def on_shutdown(self) -> None:
        """Stop; called once, if the service was started.

        The services before this one are still running, and the bus is still open.
        """


class NamedFactory(NamedTuple):
    """A service's name and factory; :func:`with_name` returns it and :class:`Core` takes it.

    Attributes:
        name: the service's name.
        factory: creates the service.
    """

    name: str
    factory: Callable[[Core], object]


def with_name(name: str, factory: Callable[[Core], object]) -> NamedFactory:
    """Declare a service for a :class:`Core`.

    Args:
        name: the name to look it up by, see :func:`service_for`.
        factory: called once, with the core; returns the service, which may be any object. A class
            whose only argument is the core is a factory.

    Raises:
        InvalidError: the name is empty, or the factory is not callable or is async.
    """
    if not name:
        raise InvalidError("a service has an empty name", todo="Give it a name.")
    if not callable(factory):
        raise InvalidError(
            f"the factory of the service {name!r} is not callable",
            why=f"it is {factory!r}",
            todo="Pass a function that takes the core and returns the service.",
            service=name,
        )
    if is_async(factory):
        raise InvalidError(
            f"the factory of the service {name!r} is async",
            why="a core does not await",
            todo="Pass a plain function that returns the service.",
            service=name,
        )
    return NamedFactory(name, factory)


class Core(Bus):
    """Services with a common lifetime, and the bus that connects them.

    The factories run in the order given; each may look up the services before its own.
    ``start`` and ``shutdown`` (or a with block) call ``on_startup`` of the services that have it,
    in this order, and ``on_shutdown`` in reverse order. The bus is open from the first factory to
    the end of the last ``on_shutdown``. A core cannot be started again.

    Args:
        services: the results of :func:`with_name`.

    Raises:
        AlreadyExistsError: two services have the same name.
        InvalidError: a factory returned None, or an on_startup or on_shutdown is async.
        Exception: a factory raised it; a note names the service.
    """

    def __init__(self, *services: NamedFactory) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._status = CoreStatus.MAKING
        self._services: dict[str, object] = {}
        self._started: list[str] = []
        self._names = [name for name, _ in services]
        for number, name in enumerate(self._names):
            if name in self._names[:number]:
                raise AlreadyExistsError(
                    f"two services are named {name!r}",
                    todo="Rename one of them.",
                    service=name,
                )
        for name, factory in services:
            try:
                self._services[name] = self._make(name, factory)
            except BaseException as error:
                error.add_note(f"while creating the service {name!r}")
                self._end()
                raise
        self._move(CoreStatus.MADE, CoreStatus.MAKING)

    @property
    def status(self) -> CoreStatus:
        """The core's current state."""
        return self._status

    def service(self, name: str) -> object:
        """Return a service by its name; :func:`service_for` checks its type as well.

        Raises:
            NotFoundError: there is no service of this name, or it has not been created yet.
            WrongStateError: the core has been shut down.
        """
        if self._status is CoreStatus.STOPPED:
            raise self._wrong_state(CoreStatus.MADE, CoreStatus.RUNNING)
        if name in self._services:
            return self._services[name]
        if name in self._names:
            why = "it has not been created yet: factories run in the order given"
            todo = f"Put {name!r} before the services that need it, or look it up in on_startup."
        else:
            why = f"the services are: {', '.join(map(repr, self._names)) or 'none'}"
            todo = f"Add with_name({name!r}, …) to the core."
        raise NotFoundError(f"service {name!r} not found", why=why, todo=todo, service=name)

    def start(self) -> None:
        """Start the services in the order given.

        Raises:
            StartupError: a service failed to start; the services before it were shut down, and the
                core is stopped.
            WrongStateError: the core has already been started.
        """
        self._move(CoreStatus.STARTING, CoreStatus.MADE)
        failed: list[BaseException] = []
        try:
            for name, service in self._services.items():
                if isinstance(service, Startable):
                    returned = service.on_startup()  # type: ignore[func-returns-value]
                    refuse_coroutine(returned, "on_startup")
                self._started.append(name)
        except BaseException as error:  # noqa: BLE001 - raised below, with the others
            error.add_note(f"while starting the service {name!r}")
            failed.append(error)
        else:
            self._move(CoreStatus.RUNNING, CoreStatus.STARTING)
            return
        self._move(CoreStatus.STOPPING, CoreStatus.STARTING)
        what = f"cannot start the service {name!r}"
        raise together(StartupError, what, failed + self._stop(), service=name)

    def shutdown(self) -> None:
        """Shut down all services in reverse order, and close the bus.

        If the core was never started, only the bus is closed. A second call does nothing.

        Raises:
            ShutdownError: services raised; it holds their errors.
            WrongStateError: the core is starting, or another call is shutting it down.
            BaseException: an error that is not an Exception (KeyboardInterrupt) is raised as it
                is, after all services have been shut down; other errors are its cause.
        """
        with self._lock:  # another thread may be about to set STOPPED
            if self._status is CoreStatus.STOPPED:
                return
            self._move(CoreStatus.STOPPING, CoreStatus.MADE, CoreStatus.RUNNING)
        errors = self._stop()
        if errors:
            raise together(ShutdownError, "services could not be shut down", errors)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.shutdown()
        except ShutdownError as failures:
            # Otherwise it would replace a KeyboardInterrupt.
            if error is None or not is_fatal(error):
                raise
            raise error from failures

    def __repr__(self) -> str:
        return f"<Core {self._status.value}: {', '.join(self._names)}>"

    def _make(self, name: str, factory: Callable[[Core], object]) -> object:
        service = factory(self)
        refuse_coroutine(service, f"the factory of the service {name!r}")
        if service is None:
            raise InvalidError(
                f"the factory of the service {name!r} returned None",
                todo="Return the service from the factory.",
                service=name,
            )
        for method in ("on_startup", "on_shutdown"):
            if is_async(getattr(service, method, None)):
                raise InvalidError(
                    f"{method} of the service {name!r} is async",
                    why="a core does not await",
                    todo="Make it a plain method; it may run its own event loop.",
                    service=name,
                )
        return service

    def _stop(self) -> list[BaseException]:
        errors: list[BaseException] = []
        for name in reversed(self._started):
            try:
                service = self._services[name]
                if isinstance(service, Stoppable):
                    returned = service.on_shutdown()  # type: ignore[func-returns-value]
                    refuse_coroutine(returned, "on_shutdown")
            except BaseException as error:  # noqa: BLE001 - the others must be shut down as well
                error.add_note(f"while shutting down the service {name!r}")
                errors.append(error)
        self._end()
        return errors

    def _end(self) -> None:
        self._close()
        with self._lock:
            self._status = CoreStatus.STOPPED

    def _move(self, to: CoreStatus, *needed: CoreStatus) -> None:
        with self._lock:
            if self._status not in needed:
                raise self._wrong_state(*needed)
            self._status = to

    def _wrong_state(self, *needed: CoreStatus) -> WrongStateError:
        states = " or ".join(status.value for status in needed)
        return WrongStateError(
            f"the core is {self._status.value}",
            why=f"this call needs a core that is {states}",
            needed=states,
            found=self._status.value,
        )


def service_for(core: Core, name: str, kind: type[T]) -> T:
    """Return a service by its name and type.

    Raises:
        InvalidError: the service has another type.
        NotFoundError: there is no service of this name, or it has not been created yet.
        WrongStateError: the core has been shut down.
    """
    service = core.service(name)
    if isinstance(service, kind):
        return service
    raise InvalidError(
        f"the service {name!r} is not a {kind.__qualname__}",
        why=f"it is a {type(service).__qualname__}",
        todo="Pass the service's type, or change its factory.",
        service=name,
    )
