"""The contract passes what is right, and names what is wrong."""

from __future__ import annotations

import fnmatch
import io
import posixpath
import subprocess
import sys
import unittest
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from core_infra.medium._paths import rooted
from core_infra.testing import MediumContract
from toy_medium import ToyMedium

if TYPE_CHECKING:
    import builtins
    from pathlib import Path

    from core_infra.medium import FileInfo, Medium, StrPath


class TestToy(MediumContract):
    threads = False

    def make_medium(self) -> Medium:
        return ToyMedium()


class TestToyByUnittest(TestToy, unittest.TestCase):
    examples = 3


class VisibleTooEarly(ToyMedium):
    def create(self, path: StrPath, *, mode: int | None = None) -> BinaryIO:
        self.write_bytes(path, b"", mode=mode)
        return self.append(path)


class DeletesNeighbours(ToyMedium):
    def delete_all(self, path: StrPath) -> None:
        key = self.no_root(path)
        for entry in [*self.dirs, *self.files]:
            if entry.startswith(key):
                self.dirs.discard(entry)
                self.files.pop(entry, None)


class ForgetsModes(ToyMedium):
    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        super().write_bytes(path, data, mode=0o644 if mode is None else mode)


class ListsAsMade(ToyMedium):
    def list(self, path: StrPath) -> builtins.list[str]:
        super().list(path)
        return [entry.rpartition("/")[2] for entry in self.children(self.key(path))]


class ReadsMissingAsEmpty(ToyMedium):
    def read_bytes(self, path: StrPath) -> bytes:
        return super().read_bytes(path) if self.exists(path) else b""


class RaisesPythonsOwn(ToyMedium):
    def delete(self, path: StrPath) -> None:
        if not self.exists(path):
            raise FileNotFoundError(path)
        super().delete(path)


class LosesChildrenOnRename(ToyMedium):
    def rename(self, old: StrPath, new: StrPath) -> None:
        super().rename(old, new)
        for entry in [*self.files]:
            if entry.startswith(self.key(new) + "/"):
                del self.files[entry]


class MixesVersions(ToyMedium):
    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        entry = self.files.get(self.key(path))
        if entry is None:
            super().write_bytes(path, data, mode=mode)
        else:
            entry.data = data + entry.data[len(data) :]
            entry.mode = entry.mode if mode is None else mode & 0o777


class FollowsWrites(ToyMedium):
    def open(self, path: StrPath) -> BinaryIO:
        entry = self.file(path)

        class Live(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return entry.data if size in {-1, None} else super().read(size)

        self.live = entry
        return Live(entry.data)

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        entry = self.files.get(self.key(path))
        super().write_bytes(path, data, mode=mode)
        if entry is not None:
            entry.data = data


class TakesZeroForNothing(ToyMedium):
    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        super().write_bytes(path, data, mode=mode or None)


class TellsCleanedPaths(ToyMedium):
    def read_bytes(self, path: StrPath) -> bytes:
        return super().read_bytes(rooted(path))


class DeletesByPattern(ToyMedium):
    def delete_all(self, path: StrPath) -> None:
        for name in fnmatch.filter(self.list("."), path):
            super().delete_all(name)


class ReadsBytearrays(ToyMedium):
    def read_bytes(self, path: StrPath) -> bytes:
        return bytearray(super().read_bytes(path))  # type: ignore[return-value]


class MakesParentsFirst(ToyMedium):
    def rename(self, old: StrPath, new: StrPath) -> None:
        self.ensure_dir(posixpath.dirname(new) or ".")
        super().rename(old, new)


class ChangesModesOfDirectories(ToyMedium):
    def ensure_dir(self, path: StrPath) -> None:
        super().ensure_dir(path)
        self.odd = path

    def stat(self, path: StrPath) -> FileInfo:
        info = super().stat(path)
        return info._replace(mode=0o700) if path == getattr(self, "odd", "") else info


def contract_of(make: type[Medium]) -> MediumContract:
    class Contract(MediumContract):
        examples = 200

        def make_medium(self) -> Medium:
            return make()

    return Contract()


@pytest.mark.parametrize(
    ("medium", "test", "message"),
    [
        (
            VisibleTooEarly,
            "test_create_shows_the_file_when_it_is_closed",
            "exists('new/file') must give False, but gave True",
        ),
        (
            DeletesNeighbours,
            "test_delete_all_removes_everything_and_ignores_missing_paths",
            "list('.') must give ['dirt', 'empty'], but gave ['empty']",
        ),
        (
            ForgetsModes,
            "test_a_mode_is_set_as_given_and_kept_by_later_writes",
            "the mode must be 777, but is 644\n  after:\n    write_text('f', '1', mode=0o4777)",
        ),
        (
            ListsAsMade,
            "test_list_is_sorted_by_code_points",
            "but gave ['b', 'a', 'é', '10', '9'",
        ),
        (
            ReadsMissingAsEmpty,
            "test_a_missing_path_is_not_found",
            "read_text('dir/missing') must raise PathNotFoundError, but gave ''",
        ),
        (
            RaisesPythonsOwn,
            "test_a_missing_path_is_not_found",
            "delete('missing') must raise PathNotFoundError, but raised FileNotFoundError: missing",
        ),
        (
            LosesChildrenOnRename,
            "test_rename_moves_a_whole_directory_tree",
            "read_text('z/b/c') must work, but raised PathNotFoundError",
        ),
        (
            MixesVersions,
            "test_writing_makes_parents_and_replaces",
            "read_text('a/b/c') must give 'new', but gave 'newg old content'",
        ),
        (
            FollowsWrites,
            "test_a_reader_keeps_the_version_that_it_opened",
            "the reader must read b'old', but read b'changed'",
        ),
        (
            TakesZeroForNothing,
            "test_a_mode_is_set_as_given_and_kept_by_later_writes",
            "the mode must be 0, but is 640",
        ),
        (
            TellsCleanedPaths,
            "test_an_error_has_the_path_as_it_was_given",
            "path='./missing', as it was given, but has path='missing'",
        ),
        (
            DeletesByPattern,
            "test_names_are_not_patterns",
            "list('.') must give ['a-b', 'ab', 'axb'], but gave ['a-b', 'a[x]b', 'ab']",
        ),
        (
            ReadsBytearrays,
            "test_bytes_come_back_as_written",
            "read_bytes('f') must give b'', but gave bytearray(b'')",
        ),
        (
            MakesParentsFirst,
            "test_an_impossible_rename_changes_nothing",
            "    ensure_dir('empty')\n    rename('dir', 'dir/x/y'), refused",
        ),
        (
            ChangesModesOfDirectories,
            "test_random_operations_match_the_oracle",
            "a directory of 0 bytes and mode 700",
        ),
    ],
)
def test_each_seeded_bug_is_found_by_the_test_that_is_named_for_it(
    medium: type[Medium], test: str, message: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        getattr(contract_of(medium), test)()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("medium", "most"),
    [
        (DeletesNeighbours, 2),
        (MixesVersions, 3),  # a write, what makes the file longer, a write that is shorter
    ],
)
def test_random_operations_find_bugs_too_and_show_only_needed_steps(
    medium: type[Medium], most: int
) -> None:
    with pytest.raises(AssertionError, match=", but is ") as caught:
        contract_of(medium).test_random_operations_match_the_oracle()
    history = str(caught.value).partition("  after:\n")[2].splitlines()
    assert 2 <= len(history) <= most


def test_a_guarantee_that_is_not_given_is_not_tested() -> None:
    class Contract(MediumContract):
        modes = False

        def make_medium(self) -> Medium:
            return ForgetsModes()

    Contract().test_a_mode_is_set_as_given_and_kept_by_later_writes()
    Contract().test_random_operations_match_the_oracle()


def test_a_missing_make_medium_is_reported() -> None:
    class Contract(MediumContract):
        pass

    with pytest.raises(NotImplementedError, match="Contract must have make_medium"):
        Contract().test_bytes_come_back_as_written()


def test_without_hypothesis_the_error_says_what_to_install(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["hypothesis"] = None
from core_infra.errors import UnavailableError
from core_infra.testing import MediumContract
try:
    MediumContract().test_random_operations_match_the_oracle()
except UnavailableError as error:
    print(error)
"""
    done: Any = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "pip install core-infra[testing]" in done.stdout
