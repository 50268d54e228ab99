"""A medium that is being examined: remembers what was done to it, to tell it when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from core_infra.medium._medium import Medium


_SHOWN = 60
_AFTER = "\n  after:"


class Subject:
    """Calls the operations of a medium by name, and says what went wrong.

    Args:
        medium: the medium.
    """

    def __init__(self, medium: Medium) -> None:
        self.medium = medium
        self._history: list[str] = []

    def do(self, operation: str, *args: Any, **options: Any) -> Any:
        """Perform an operation that must succeed; return what it gives."""
        call = _call(operation, args, options)
        try:
            result = getattr(self.medium, operation)(*args, **options)
        except Exception as error:
            raise self._failed(f"{call} must work, but raised {told(error)}") from error
        self.note(call)
        return result

    def gives(self, expected: object, operation: str, *args: Any) -> None:
        """Perform an operation whose result is known."""
        found = self.do(operation, *args)
        self._history.pop()  # told in the message itself
        if found != expected or not isinstance(found, type(expected)):  # a bytearray is no bytes
            call = _call(operation, args, {})
            raise self._failed(f"{call} must give {short(expected)}, but gave {short(found)}")

    def refuses(self, kind: type[CoreInfraError], operation: str, *args: Any) -> None:
        """Perform an operation that must raise one kind of error, with the path in it."""
        call = _call(operation, args, {})
        try:
            result = getattr(self.medium, operation)(*args)
        except CoreInfraError as error:
            if not isinstance(error, kind):
                found = told(error)
                raise self._failed(
                    f"{call} must raise {kind.__name__}, but raised {found}"
                ) from error
            path = getattr(error, "path", None)
            if path not in args:
                raise self._failed(
                    f"the error of {call} must have path={short(args[0])}, as it was given, "
                    f"but has path={short(path)}"
                ) from error
            self.note(f"{call}, refused")
        except Exception as error:
            found = told(error)
            raise self._failed(f"{call} must raise {kind.__name__}, but raised {found}") from error
        else:
            raise self._failed(f"{call} must raise {kind.__name__}, but gave {short(result)}")

    def holds(self, fact: object, what: str) -> None:
        """Check anything else.

        Args:
            fact: must be true.
            what: the sentence that is wrong otherwise.
        """
        if not fact:
            raise self._failed(what)

    def note(self, what: str) -> None:
        """Add to the history what was done without this class."""
        self._history.append(what)

    def _failed(self, what: str) -> AssertionError:
        steps = "".join(f"\n    {step}" for step in self._history)
        return AssertionError(f"{what}{_AFTER}{steps}" if steps else what)


def each(cases: Iterable[Any], check: Callable[..., None]) -> None:
    """Run a check on all cases, each a tuple of arguments, and tell all that fail together."""
    failures: dict[str, list[str]] = {}  # by what was done before
    for case in cases:
        try:
            check(*case)
        except AssertionError as error:
            what, after, history = str(error).partition(_AFTER)
            failures.setdefault(after + history, []).append(what)
    if failures:
        parts = ["\n".join(what) + history for history, what in failures.items()]
        raise AssertionError("\n".join(parts))


def _call(operation: str, args: tuple[Any, ...], options: dict[str, Any]) -> str:
    shown = [short(arg) for arg in args] + [
        f"{name}=0o{value:o}" if name == "mode" else f"{name}={value!r}"
        for name, value in options.items()
    ]
    return f"{operation}({', '.join(shown)})"


def told(error: BaseException) -> str:
    """An error's kind and text."""
    return f"{type(error).__name__}: {error}"


def short(value: object) -> str:
    """A value as a message can show it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


class Contract:
    """How the medium under test is made, and which of the promises it does not make.

    Attributes:
        modes: permission bits are kept, and new entries have the usual ones (umask 022).
        times: ``modified`` is the time of the last write.
        snapshots: an open reader keeps reading the version that it opened.
        seekable: what ``create`` gives can be sought in.
        unusual_names: newlines, backslashes, 255 bytes, bytes that are not UTF-8.
        case_sensitive: ``a`` and ``A`` are two names.
        threads: several threads may use one medium at once.
        reasons: errors have the same ``why`` as those of the library's own media.
        examples: how many random sequences of operations are tried.
    """

    modes = True
    times = True
    snapshots = True
    seekable = True
    unusual_names = True
    case_sensitive = True
    threads = True
    reasons = False
    examples = 25

    def make_medium(self) -> Medium:
        """Return a new, empty medium; called several times in one test. To be overridden."""
        raise NotImplementedError(
            f"{type(self).__name__} must have make_medium(), which returns a new, empty medium"
        )

    def empty(self) -> Subject:
        """A new medium."""
        return Subject(self.make_medium())

    def filled(self) -> Subject:
        """A new medium with two files and an empty directory."""
        subject = self.empty()
        subject.do("write_bytes", "file", b"old")
        subject.do("write_bytes", "dir/inner", b"x")
        subject.do("ensure_dir", "empty")
        return subject
