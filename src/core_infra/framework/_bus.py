"""The bus: actions go to all handlers, a query or task to the first that handles it.

Messages are any objects. Handlers are plain callables, called on the sender's thread in the order
of their registration. Sending takes no lock; handlers may send, register and unregister.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from core_infra.errors import WrongStateError
from core_infra.framework._errors import ActionError, UnhandledError, is_fatal, together
from core_infra.framework._handlers import DECLINED, Handlers, refuse_coroutine, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from core_infra.framework._handlers import Registration, Request

D = TypeVar("D")
M = TypeVar("M")
T = TypeVar("T")


class Bus:
    """Delivers messages to handlers; :class:`~core_infra.framework.Core` is a bus."""

    def __init__(self) -> None:
        self._open = True
        self._actions = Handlers()
        self._queries = Handlers()
        self._tasks = Handlers()

    @overload
    def register_action(self, handler: Callable[[object], object]) -> Registration: ...
    @overload
    def register_action(self, handler: Callable[[M], object], kind: type[M]) -> Registration: ...
    def register_action(
        self, handler: Callable[[Any], object], kind: type = object
    ) -> Registration:
        """Register a handler that is called with every action from now on.

        Args:
            handler: called with the message; its result is ignored.
            kind: call it only with messages of this type and its subclasses.

        Raises:
            AlreadyExistsError: it is already registered for this type.
            InvalidError: it is not callable, is async, or *kind* is not a type.
            WrongStateError: the bus is closed.
        """
        return self._register(self._actions, handler, kind)

    @overload
    def register_query(self, handler: Callable[[object], object]) -> Registration: ...
    @overload
    def register_query(self, handler: Callable[[M], object], kind: type[M]) -> Registration: ...
    def register_query(self, handler: Callable[[Any], object], kind: type = object) -> Registration:
        """Register a handler that is called with every query that no earlier handler answers.

        Args:
            handler: returns the answer, or DECLINED if it does not handle the query.
            kind: call it only with messages of this type and its subclasses.

        Raises:
            CoreInfraError: as :meth:`register_action` does.
        """
        return self._register(self._queries, handler, kind)

    @overload
    def register_task(self, handler: Callable[[object], object]) -> Registration: ...
    @overload
    def register_task(self, handler: Callable[[M], object], kind: type[M]) -> Registration: ...
    def register_task(self, handler: Callable[[Any], object], kind: type = object) -> Registration:
        """Register a handler that is called with every task that no earlier handler performs.

        Args:
            handler: performs the task and returns the result, or DECLINED if it does not handle it.
            kind: call it only with messages of this type and its subclasses.

        Raises:
            CoreInfraError: as :meth:`register_action` does.
        """
        return self._register(self._tasks, handler, kind)

    def action(self, message: object) -> None:
        """Send an action: call every handler of actions, even if others raise.

        Raises:
            ActionError: handlers raised; it holds their errors.
            WrongStateError: the bus is closed.
            BaseException: an error that is not an Exception (KeyboardInterrupt), or a
                RecursionError, is raised at once; the errors of earlier handlers are its cause.
        """
        if not self._open:
            raise _closed(message)
        errors: tuple[BaseException, ...] = ()
        for call in self._actions.calls[type(message)]:
            try:
                if (value := call(message)) is not None:
                    refuse_coroutine(value, "a handler")
            except BaseException as error:  # noqa: BLE001 - raised below, with the others
                errors = (*errors, error)
                if is_fatal(error):
                    break
        if errors:
            raise _failed(message, errors)

    def actions(self, messages: Iterable[object]) -> None:
        """Send many actions, in half the time of one :meth:`action` call for each.

        If handlers raise, the messages after that one are not sent; an iterator can be passed again
        to continue with them.

        Raises:
            ActionError: as :meth:`action` does, for that message.
            WrongStateError: the bus is closed.
            BaseException: as :meth:`action` does.
        """
        handlers = self._actions
        table: object = None
        kind: object = None
        only: Callable[[Any], Any]
        for message in messages:
            # Looked up again only after a change: most messages come in runs of one type.
            if type(message) is not kind or handlers.calls is not table:
                if not self._open:
                    raise _closed(message)
                calls = handlers.calls[type(message)]
                if len(calls) != 1:
                    self.action(message)
                    continue
                table, kind, only = handlers.calls, type(message), calls[0]
            try:  # looping over a single handler takes as long as calling it
                if (value := only(message)) is not None:
                    refuse_coroutine(value, "a handler")
            except BaseException as error:  # noqa: BLE001 - raised below
                errors = (error,)
                break
        else:
            return
        raise _failed(message, errors)

    @overload
    def query(self, message: Request[T]) -> T: ...
    @overload
    def query(self, message: Request[T], default: D) -> T | D: ...
    @overload
    def query(self, message: object, default: object = ...) -> Any: ...
    def query(self, message: object, default: object = DECLINED) -> Any:
        """Send a query, and return the answer of the first handler that has one.

        Args:
            message: the query.
            default: returned if no handler answers.

        Raises:
            UnhandledError: no handler answered, and there is no default.
            WrongStateError: the bus is closed.
            Exception: a handler raised it; later handlers are not called.
        """
        answer = self._first(self._queries, message)
        if answer is not DECLINED:
            return answer
        if default is not DECLINED:
            return default
        raise _unhandled("query", "answered", message)

    @overload
    def perform(self, message: Request[T]) -> T: ...
    @overload
    def perform(self, message: object) -> Any: ...
    def perform(self, message: object) -> Any:
        """Send a task, and return the result of the first handler that performs it.

        Raises:
            UnhandledError: no handler took it.
            WrongStateError: the bus is closed.
            Exception: a handler raised it; later handlers are not called.
        """
        result = self._first(self._tasks, message)
        if result is not DECLINED:
            return result
        raise _unhandled("task", "took", message)

    def _register(
        self, handlers: Handlers, handler: Callable[[Any], object], kind: type
    ) -> Registration:
        if not self._open:
            raise _closed(handler)
        return handlers.add(handler, kind)

    def _first(self, handlers: Handlers, message: object) -> Any:
        if not self._open:
            raise _closed(message)
        for call in handlers.calls[type(message)]:
            answer = call(message)
            if answer is not DECLINED:
                return answer
        return DECLINED

    def _close(self) -> None:
        self._open = False
        self._actions.renew()  # a running actions() notices, and raises


def _failed(message: object, errors: Sequence[BaseException]) -> BaseException:
    what = f"handlers of the action {shorten(message)} failed"
    return together(ActionError, what, errors, action=message)


def _closed(used: object) -> WrongStateError:
    return WrongStateError(
        f"the bus cannot take {shorten(used)}",
        why="it is closed: its core has been shut down",
        needed="open",
        found="closed",
    )


def _unhandled(kind: str, verb: str, message: object) -> UnhandledError:
    return UnhandledError(
        f"no handler {verb} the {kind} {shorten(message)}",
        why="none is registered for it, or all declined it",
        todo=f"Register one with register_{kind}.",
        message=message,
    )
