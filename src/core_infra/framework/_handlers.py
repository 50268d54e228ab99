"""Message types, and the tables of handlers: few changes, many calls."""

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

T_co = TypeVar("T_co", covariant=True)

_CACHED_TYPES = 1024


class Declined(enum.Enum):
    """The type of :data:`DECLINED`, to annotate handlers with: ``-> str | Declined``."""

    DECLINED = "declined"


DECLINED: Final = Declined.DECLINED
"""What a handler of queries or tasks returns for a message that it does not handle.

Everything else is an answer, also None, 0 and an empty list.
"""


class Request(Generic[T_co]):
    """An optional base class for queries and tasks that carries the answer's type.

    With ``class Version(Request[str])``, mypy infers that ``core.query(Version())`` is a str.
    Messages of other types work as well; their answers are typed as Any.
    """


class Registration:
    """A registered handler; as a context manager, it is unregistered at the end of the block.

    :meth:`Bus.register_action` and its siblings return it.

    Attributes:
        handler: the handler.
        kind: the type of the messages that it gets.
    """

    def __init__(self, handler: Handler, kind: type, unregister: Callable[[], None]) -> None:
        self.handler = handler
        self.kind = kind
        self._unregister = unregister

    def unregister(self) -> None:
        """Remove the handler from the bus; a second call does nothing.

        A message that is being delivered at this moment still reaches it.
        """
        self._unregister()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def __repr__(self) -> str:
        return f"<Registration of {self.handler!r} for {self.kind.__name__}>"


class Entry:
    """A handler in the table, and which messages it gets.

    Args:
        handler: the handler.
        kind: the type of its messages.
    """

    def __init__(self, handler: Handler, kind: type) -> None:
        self.handler = handler
        self.kind = kind
        # An ABC or a Protocol decides by itself what its instances are.
        self._by_class = type(kind).__instancecheck__ is type.__instancecheck__
        self._checking_each = _only(handler, kind)

    def call_for(self, kind: type) -> Handler | None:
        """Return what to call with messages of exactly this type; None if nothing."""
        if self.kind is object:
            return self.handler
        if self._by_class and _has_true_class(kind):
            return self.handler if issubclass(kind, self.kind) else None
        return self._checking_each


class Calls(dict[type, tuple["Handler", ...]]):
    """The handlers to call for a message, by its type; filled when a type first occurs.

    Args:
        entries: all handlers, in their order.
    """

    def __init__(self, entries: tuple[Entry, ...] = ()) -> None:
        super().__init__()
        self._entries = entries

    def __missing__(self, kind: type) -> tuple[Handler, ...]:
        """Compute the handlers for a type of message."""
        if len(self) >= _CACHED_TYPES:  # keeps types that are created per message from piling up
            self.clear()
        calls = (entry.call_for(kind) for entry in self._entries)
        self[kind] = found = tuple(call for call in calls if call is not None)
        return found


class Handlers:
    """Handlers in the order of their registration.

    Attributes:
        calls: what to call for a message. It is replaced at each change, so an iteration over what
            it returned needs no lock and is not affected by the change.
    """

    def __init__(self) -> None:
        self.calls = Calls()
        self._all: tuple[Entry, ...] = ()
        self._lock = threading.Lock()

    def add(self, handler: Handler, kind: type) -> Registration:
        """Register a handler for the messages of one type.

        Raises:
            AlreadyExistsError: it is already registered for this type.
            InvalidError: it is not callable, or *kind* is not a type.
        """
        _check(handler, kind)
        new = Entry(handler, kind)
        with self._lock:
            if any(old.handler == handler and old.kind is kind for old in self._all):
                raise AlreadyExistsError(
                    f"cannot register {handler!r}",
                    why=f"it is already registered for {kind.__name__}",
                    todo="Unregister it first, or register it once.",
                    handler=handler,
                )
            self._replace((*self._all, new))
        return Registration(handler, kind, lambda: self._remove(new))

    def renew(self) -> None:
        """Replace :attr:`calls`, so that running iterations over many messages notice."""
        with self._lock:
            self._replace(self._all)

    def _remove(self, entry: Entry) -> None:
        with self._lock:
            self._replace(tuple(other for other in self._all if other is not entry))

    def _replace(self, entries: tuple[Entry, ...]) -> None:
        self._all = entries
        self.calls = Calls(entries)


def shorten(message: object) -> str:
    """Format a message for an error: short, and even if its repr raises."""
    return _SHORT.repr(message)


_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 200


def is_async(function: object) -> bool:
    """Whether calling it returns an awaitable: a function, a method, an object, a partial."""
    while isinstance(function, functools.partial):
        function = function.func
    # An object is called through its type's __call__; calling a class creates an instance.
    call = None if inspect.isclass(function) else getattr(type(function), "__call__", None)  # noqa: B004
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one)
        for one in (function, call)
    )


def refuse_coroutine(value: object, caller: str) -> None:
    """Raise InvalidError for what a plain function around an async one returns: nothing has run.

    Args:
        value: what the function returned.
        caller: names the function in the error.
    """
    if inspect.iscoroutine(value):
        value.close()
        raise InvalidError(
            f"{caller} has returned a coroutine, which is not awaited",
            todo="Give a function that returns when all is done, as by asyncio.run().",
        )


def _has_true_class(kind: type) -> bool:
    """Whether its instances cannot claim another ``__class__``, as mocks do."""
    return not any("__class__" in vars(base) for base in kind.__mro__[:-1])


def _only(handler: Handler, kind: type) -> Handler:
    def call(message: object) -> Any:
        return handler(message) if isinstance(message, kind) else DECLINED

    return call


def _check(handler: Handler, kind: type) -> None:
    why = ""
    if not callable(handler):
        why = "it is not callable"
    elif is_async(handler):
        why = "it is async, and the bus does not await handlers"
    elif not isinstance(kind, type):
        why = f"{kind!r} is not a type"
    else:
        try:
            isinstance(None, kind)
        except TypeError as error:  # a Protocol that is not runtime_checkable
            why = str(error)
    if why:
        raise InvalidError(f"cannot register {handler!r}", why=why, handler=handler)
