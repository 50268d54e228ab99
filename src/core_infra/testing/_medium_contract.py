"""The contract of a medium, as tests to run on your own."""

from __future__ import annotations

from core_infra.errors import UnavailableError
from core_infra.testing._medium_files import FileContract
from core_infra.testing._medium_trees import TreeContract


class MediumContract(FileContract, TreeContract):
    """The contract of a medium; subclass it in a test module for pytest or unittest.

    ::

        class TestMyMedium(MediumContract):
            modes = False  # a guarantee that it does not give

            def make_medium(self):
                return MyMedium()

    For unittest, subclass ``unittest.TestCase`` as well. Set these class attributes to False for
    guarantees that your medium does not give:

    Attributes:
        modes: permission bits are kept, and new entries have the usual ones (umask 022).
        times: ``modified`` is the time of the last write.
        snapshots: an open reader continues to read the version that it opened.
        seekable: the writer of ``create`` is seekable.
        unusual_names: newlines, backslashes, 255 bytes, bytes that are not UTF-8.
        case_sensitive: ``a`` and ``A`` are different names.
        threads: several threads may use a medium at the same time.
        reasons: errors have the same ``why`` as those of the library's own media (default: False).
        examples: the number of random sequences of operations to try (default: 25).
    """

    def test_random_operations_match_the_oracle(self) -> None:
        """Random sequences of operations give the same results as on a MemoryMedium.

        Raises:
            UnavailableError: Hypothesis is not installed.
        """
        try:
            from core_infra.testing._medium_oracle import compare  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise UnavailableError(
                "cannot try random operations",
                why="this part of MediumContract needs Hypothesis",
                todo="Install it with: pip install core-infra[testing]",
            ) from error
        compare(self)
