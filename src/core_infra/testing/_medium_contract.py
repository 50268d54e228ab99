"""What every medium promises, as tests that anybody can run on a medium of their own."""

from __future__ import annotations

from core_infra.errors import UnavailableError
from core_infra.testing._medium_files import FileContract
from core_infra.testing._medium_trees import TreeContract


class MediumContract(FileContract, TreeContract):
    """The tests; subclass it, say how your medium is made, and let pytest or unittest find it.

    ::

        class TestMyMedium(MediumContract):
            modes = False  # a promise that it does not make: see Contract for the others

            def make_medium(self):
                return MyMedium()

    For unittest, subclass ``unittest.TestCase`` as well.
    """

    def test_random_operations_give_the_answers_of_the_oracle(self) -> None:
        """Random sequences of operations are tried here and on a MemoryMedium.

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
