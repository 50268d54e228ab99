"""The handlers of one kind of traffic: few changes, many calls."""

from __future__ import annotations

import enum
import functools
import inspect
import reprlib
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeAlias, TypeVar

from core_infra.errors import AlreadyExistsError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler: TypeAlias = Callable[[Any], Any]

_MOST = 1024


class Registration:
    """A handler's place on the bus; as a context manager, it lasts as long as the block.

    Attributes:
        handler: the handler.
        kind: the type of the messages that it gets.
    """

    def __init__(self, handlers: Handlers, handler: Handler, kind: type) -> None:
        self._handlers = handlers
        self.handler = handler
        self.kind = kind
        # An ABC or a Protocol has a mind of its own about what its instances are.
        self._by_class = type(kind).__instancecheck__ is type.__instancecheck__
        self._asking = _only(handler, kind)

    def call_for(self, kind: type) -> Handler | None:
        """What to call with messages of exactly this type; None if they do not concern it."""
        if self.kind is object:
            return self.handler
        if self._by_class and _is_what_it_says(kind):
            return self.handler if issubclass(kind, self.kind) else None
        return self._asking

    def unregister(self) -> None:
        """Take the handler off the bus; doing it twice is no error.

        What is being handed round at this moment still comes to it.
        """
        self._handlers.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def __repr__(self) -> str:
        return f"<Registration of {self.handler!r} for {self.kind.__name__}>"


class Calls(dict[type, tuple["Handler", ...]]):
    """What to call for a message, by its type; found out when one comes first.

    Args:
        registrations: of all handlers, in their order.
    """

    def __init__(self, registrations: tuple[Registration, ...] = ()) -> None:
        super().__init__()
        self._registrations = registrations

    def __missing__(self, kind: type) -> tuple[Handler, ...]:
        """Find out what to call for messages of a type."""
        if len(self) >= _MOST:  # types that are made anew for each message live no longer than that
            self.clear()
        calls = (registration.call_for(kind) for registration in self._registrations)
        self[kind] = found = tuple(call for call in calls if call is not None)
        return found


class Handlers:
    """Handlers in the order of their registration.

    Attributes:
        calls: what to call for a message. Replaced at each change: whoever goes through what it
            gave needs no lock, and finishes the round that he began.
    """

    def __init__(self) -> None:
        self.calls = Calls()
        self._all: tuple[Registration, ...] = ()
        self._lock = threading.Lock()

    def add(self, handler: Handler, kind: type) -> Registration:
        """Register a handler for the messages of one type.

        Raises:
            AlreadyExistsError: it is registered for this type.
            InvalidError: it cannot be called, or *kind* is no type.
        """
        _check(handler, kind)
        new = Registration(self, handler, kind)
        with self._lock:
            if any(old.handler == handler and old.kind is kind for old in self._all):
                raise AlreadyExistsError(
                    f"cannot register {handler!r}",
                    why=f"it is registered for {kind.__name__} already",
                    todo="Unregister it first, or register it once.",
                    handler=handler,
                )
            self._replace((*self._all, new))
        return new

    def remove(self, registration: Registration) -> None:
        """Forget a registration, if it is still there."""
        with self._lock:
            self._replace(tuple(other for other in self._all if other is not registration))

    def renew(self) -> None:
        """Have everybody look again what is to be called."""
        with self._lock:
            self._replace(self._all)

    def _replace(self, registrations: tuple[Registration, ...]) -> None:
        self._all = registrations
        self.calls = Calls(registrations)


def _is_what_it_says(kind: type) -> bool:
    """Whether no instance of it passes for another type's, as a mock's may."""
    return not any("__class__" in vars(base) for base in kind.__mro__[:-1])


def _only(handler: Handler, kind: type) -> Handler:
    def call(message: object) -> Any:
        return handler(message) if isinstance(message, kind) else DECLINED

    return call


def _check(handler: Handler, kind: type) -> None:
    why = ""
    if not callable(handler):
        why = "it cannot be called"
    elif is_async(handler):
        why = "it is async, and the bus waits for nobody"
    elif not isinstance(kind, type):
        why = f"{kind!r} is no type"
    else:
        try:
            isinstance(None, kind)
        except TypeError as error:  # a Protocol that is not runtime_checkable
            why = str(error)
    if why:
        raise InvalidError(f"cannot register {handler!r}", why=why, handler=handler)


T_co = TypeVar("T_co", covariant=True)


class Declined(enum.Enum):
    """The type of :data:`DECLINED`, to annotate handlers with: ``-> str | Declined``."""

    DECLINED = "declined"


DECLINED: Final = Declined.DECLINED
"""What a handler of queries or tasks returns for a message that is not its own.

Everything else is an answer, also None, 0 and an empty list.
"""


class Request(Generic[T_co]):
    """A base class for queries and tasks that tells type checkers the answer's type.

    No message needs it: any object may be one. With ``class Version(Request[str])``, mypy knows
    that ``core.query(Version())`` is a str.
    """


def shorten(message: object) -> str:
    """A message as an error can show it, whatever its size and even if its repr raises."""
    return _SHORT.repr(message)


_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 200


def is_async(function: object) -> bool:
    """Whether it is async: a function, a method, an object that can be called, a partial of one."""
    while isinstance(function, functools.partial):
        function = function.func
    # An object is called by its type's method; a class makes an object, whatever that can do.
    call = None if inspect.isclass(function) else getattr(type(function), "__call__", None)  # noqa: B004
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one)
        for one in (function, call)
    )
