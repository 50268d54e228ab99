"""Named services: made, started, found, and shut down in reverse."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

from core_infra.errors import AlreadyExistsError, InvalidError, NotFoundError, WrongStateError
from core_infra.framework._bus import Bus
from core_infra.framework._errors import ShutdownError, StartupError, is_fatal, together
from core_infra.framework._handlers import is_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


T = TypeVar("T")


class NamedFactory(NamedTuple):
    """What :func:`with_name` gives to Core."""

    name: str
    factory: Callable[[Core], object]


def with_name(name: str, factory: Callable[[Core], object]) -> NamedFactory:
    """Name a service and say how it is made.

    Args:
        name: what :func:`service_for` finds it by.
        factory: called once, with the core; returns the service, which may be any object. A class
            whose only argument is the core is a factory.

    Raises:
        InvalidError: the name is empty, or the factory cannot be called or is async.
    """
    if not name:
        raise InvalidError("a service has an empty name", todo="Give it one.")
    if not callable(factory):
        raise InvalidError(
            f"the factory of the service {name!r} cannot be called",
            why=f"it is {factory!r}",
            todo="Give a function from the core to the service, not the service itself.",
            service=name,
        )
    if is_async(factory):
        raise InvalidError(
            f"the factory of the service {name!r} is async",
            why="a core awaits nothing",
            todo="Give a plain function that returns the service.",
            service=name,
        )
    return NamedFactory(name, factory)


class Core(Bus):
    """Services that live together, and the bus between them.

    The factories run in the order given, and each may look up the services before its own.
    ``start`` and ``shutdown`` (or a with block) call ``on_startup`` of the services that have one
    in this order, and ``on_shutdown`` in the reverse. The bus is open from the first factory to
    the end of the last ``on_shutdown``. A core lives once.

    Args:
        services: what :func:`with_name` returns.

    Raises:
        AlreadyExistsError: two services have the same name.
        InvalidError: a factory returned None, or an on_startup or on_shutdown is async.
        Exception: what a factory raises, with a note that names the service.
    """

    def __init__(self, *services: NamedFactory) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._status = Status.MAKING
        self._services: dict[str, object] = {}
        self._started: list[str] = []
        self._names = [name for name, _ in services]
        for number, name in enumerate(self._names):
            if name in self._names[:number]:
                raise AlreadyExistsError(
                    f"two services are named {name!r}",
                    todo="Name one of them otherwise.",
                    service=name,
                )
        for name, factory in services:
            try:
                self._services[name] = self._make(name, factory)
            except BaseException as error:
                error.add_note(f"while making the service {name!r}")
                self._end()
                raise
        self._move(Status.MADE, Status.MAKING)

    @property
    def status(self) -> Status:
        """Where in its life the core is."""
        return self._status

    def service(self, name: str) -> object:
        """Find a service by its name alone; :func:`service_for` tells its type as well.

        Raises:
            NotFoundError: none has this name, or it is not made yet.
            WrongStateError: the core has been shut down.
        """
        if self._status is Status.STOPPED:
            raise self._wrong_state(Status.MADE, Status.RUNNING)
        if name in self._services:
            return self._services[name]
        if name in self._names:
            why = "it is not made yet: factories run in the order given"
            todo = f"Name {name!r} before the services that need it, or look it up in on_startup."
        else:
            why = f"the services are: {', '.join(map(repr, self._names)) or 'none'}"
            todo = f"Add with_name({name!r}, …) to the core."
        raise NotFoundError(f"there is no service {name!r}", why=why, todo=todo, service=name)

    def start(self) -> None:
        """Start the services in the order given.

        Raises:
            StartupError: a service could not be started; the ones before it were shut down again,
                and the core is stopped.
            WrongStateError: the core is not fresh.
        """
        self._move(Status.STARTING, Status.MADE)
        failed: list[BaseException] = []
        try:
            for name, service in self._services.items():
                if isinstance(service, Startable):
                    service.on_startup()
                self._started.append(name)
        except BaseException as error:  # noqa: BLE001 - raised below, with the others
            error.add_note(f"while starting the service {name!r}")
            failed.append(error)
        else:
            self._move(Status.RUNNING, Status.STARTING)
            return
        self._move(Status.STOPPING, Status.STARTING)
        what = f"cannot start the service {name!r}"
        raise together(StartupError, what, failed + self._stop(), service=name)

    def shutdown(self) -> None:
        """Shut the services down in reverse order, all of them, and close the bus.

        A core that was never started just closes; one that is stopped already stays so.

        Raises:
            ShutdownError: services raised; it holds their errors.
            WrongStateError: the core is starting, or stopping at this moment.
            BaseException: what is no Exception (KeyboardInterrupt) passes, but only after all
                services have been shut down; the errors of others are its cause.
        """
        with self._lock:  # another thread may be just about to come to the end
            if self._status is Status.STOPPED:
                return
            self._move(Status.STOPPING, Status.MADE, Status.RUNNING)
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
            # Otherwise it would take the place of a KeyboardInterrupt.
            if error is None or not is_fatal(error):
                raise
            raise error from failures

    def __repr__(self) -> str:
        return f"<Core {self._status.value}: {', '.join(self._names)}>"

    def _make(self, name: str, factory: Callable[[Core], object]) -> object:
        service = factory(self)
        if service is None:
            raise InvalidError(
                f"the factory of the service {name!r} returned None",
                todo="Let it return the service.",
                service=name,
            )
        for method in ("on_startup", "on_shutdown"):
            if is_async(getattr(service, method, None)):
                raise InvalidError(
                    f"{method} of the service {name!r} is async",
                    why="a core awaits nothing",
                    todo="Make it a plain method; it may run an event loop of its own.",
                    service=name,
                )
        return service

    def _stop(self) -> list[BaseException]:
        errors: list[BaseException] = []
        for name in reversed(self._started):
            try:
                service = self._services[name]
                if isinstance(service, Stoppable):
                    service.on_shutdown()
            except BaseException as error:  # noqa: BLE001 - the others must be shut down, too
                error.add_note(f"while shutting down the service {name!r}")
                errors.append(error)
        self._end()
        return errors

    def _end(self) -> None:
        self._close()
        with self._lock:
            self._status = Status.STOPPED

    def _move(self, to: Status, *needed: Status) -> None:
        with self._lock:
            if self._status not in needed:
                raise self._wrong_state(*needed)
            self._status = to

    def _wrong_state(self, *needed: Status) -> WrongStateError:
        states = " or ".join(status.value for status in needed)
        return WrongStateError(
            f"the core is {self._status.value}",
            why=f"this needs one that is {states}",
            needed=states,
            found=self._status.value,
        )


def service_for(core: Core, name: str, kind: type[T]) -> T:
    """Find a service by its name and type.

    Raises:
        InvalidError: the service is of another type.
        NotFoundError: none has this name, or it is not made yet.
        WrongStateError: the core has been shut down.
    """
    service = core.service(name)
    if isinstance(service, kind):
        return service
    raise InvalidError(
        f"the service {name!r} is no {kind.__qualname__}",
        why=f"it is a {type(service).__qualname__}",
        todo="Ask for its own type, or change its factory.",
        service=name,
    )


class Status(enum.Enum):
    """The states of a core, in the order in which it goes through them."""

    MAKING = "making"
    """The factories run."""
    MADE = "made"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@runtime_checkable
class Startable(Protocol):
    """A service that has something to do when its core starts."""

    def on_startup(self) -> None:
        """Begin; called after the services that are named earlier have started.

        If it raises, it has cleaned up after itself: its ``on_shutdown`` is not called.
        """


@runtime_checkable
class Stoppable(Protocol):
    """A service that has something to do when its core shuts down."""

    def on_shutdown(self) -> None:
        """End; called while the services that are named earlier still run, and the bus as well.

        Called once, and only if the service was started.
        """
