"""What the parts of the contract share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.testing.subject import Subject

if TYPE_CHECKING:
    from core_infra.medium.medium import Medium


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
