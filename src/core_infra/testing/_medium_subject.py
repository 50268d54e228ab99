"""What the parts of the medium contract share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from core_infra.medium._medium import Medium


_SHOWN = 60
_AFTER = "\n  after:"


class Subject:
    """A medium under test: calls operations by name, and reports failures with their history.

    Args:
        medium: the medium.
    """

    def __init__(self, medium: Medium) -> None:
        self.medium = medium
        self._history: list[str] = []

    def do(self, operation: str, *args: Any, **options: Any) -> Any:
        """Perform an operation that must succeed, and return its result."""
        call = _call(operation, args, options)
        try:
            result = getattr(self.medium, operation)(*args, **options)
        except Exception as error:
            raise self._failed(f"{call} must work, but raised {described(error)}") from error
        self.note(call)
        return result

    def gives(self, expected: object, operation: str, *args: Any) -> None:
        """Perform an operation, and check its result."""
        found = self.do(operation, *args)
        self._history.pop()  # the message itself has it
        if found != expected or not isinstance(found, type(expected)):  # not bytearray for bytes
            call = _call(operation, args, {})
            raise self._failed(f"{call} must give {short(expected)}, but gave {short(found)}")

    def refuses(self, kind: type[CoreInfraError], operation: str, *args: Any) -> None:
        """Perform an operation that must raise this kind of error, with its path."""
        call = _call(operation, args, {})
        try:
            result = getattr(self.medium, operation)(*args)
        except CoreInfraError as error:
            if not isinstance(error, kind):
                found = described(error)
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
            found = described(error)
            raise self._failed(f"{call} must raise {kind.__name__}, but raised {found}") from error
        else:
            raise self._failed(f"{call} must raise {kind.__name__}, but gave {short(result)}")

    def holds(self, fact: object, what: str) -> None:
        """Check any other condition.

        Args:
            fact: must be true.
            what: the error message if it is false.
        """
        if not fact:
            raise self._failed(what)

    def note(self, what: str) -> None:
        """Add an action that was done without this class to the history."""
        self._history.append(what)

    def _failed(self, what: str) -> AssertionError:
        steps = "".join(f"\n    {step}" for step in self._history)
        return AssertionError(f"{what}{_AFTER}{steps}" if steps else what)


def each(cases: Iterable[Any], check: Callable[..., None]) -> None:
    """Run a check on all cases, each a tuple of arguments, and report all failures together."""
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


def described(error: BaseException) -> str:
    """An error's type and text."""
    return f"{type(error).__name__}: {error}"


def short(value: object) -> str:
    """Format a value for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


class Contract:
    """How to create the medium under test, and which optional guarantees it gives.

    Attributes:
        modes: permission bits are kept, and new entries have the usual ones (umask 022).
        times: ``modified`` is the time of the last write.
        snapshots: an open reader continues to read the version that it opened.
        seekable: the writer of ``create`` is seekable.
        unusual_names: newlines, backslashes, 255 bytes, bytes that are not UTF-8.
        case_sensitive: ``a`` and ``A`` are different names.
        threads: several threads may use a medium at the same time.
        reasons: errors have the same ``why`` as those of the library's own media.
        examples: the number of random sequences of operations to try.
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
        """Return a new, empty medium; called several times in one test. Override this."""
        raise NotImplementedError(
            f"{type(self).__name__} must have make_medium(), which returns a new, empty medium"
        )

    def _empty(self) -> Subject:
        """Return a new medium."""
        return Subject(self.make_medium())

    def _filled(self) -> Subject:
        """Return a new medium with two files and an empty directory."""
        subject = self._empty()
        subject.do("write_bytes", "file", b"old")
        subject.do("write_bytes", "dir/inner", b"x")
        subject.do("ensure_dir", "empty")
        return subject
