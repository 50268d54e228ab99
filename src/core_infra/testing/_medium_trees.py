"""The part of the medium contract about paths, directories and errors."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from core_infra.medium._copy import copy
from core_infra.medium._errors import (
    DirectoryNotEmptyError,
    InvalidPathError,
    PathExistsError,
    PathIsDirectoryError,
    PathNotDirectoryError,
    PathNotFoundError,
)
from core_infra.medium._memory import MemoryMedium
from core_infra.testing._medium_subject import Contract, Subject, each

if TYPE_CHECKING:
    from core_infra.errors import CoreInfraError

_READS = ["read_bytes", "read_text", "open"]
_WRITES = ["write_bytes", "write_text", "create", "append"]
_LOOKS = ["exists", "is_file", "is_dir"]
_MORE = {"write_bytes": (b"new",), "write_text": ("new",), "rename": ("elsewhere",)}
"""Arguments of operations after the path."""


class TreeContract(Contract):
    """Paths, directories, moving and deleting, and the error for each situation."""

    def test_list_is_sorted_by_code_points(self) -> None:
        subject = self._empty()
        names = [
            "b",
            "a",
            "é",
            "10",
            "9",
            ".hidden",
            "a b",
            *(["B"] if self.case_sensitive else []),
        ]
        for name in names:
            subject.do("write_text", f"d/{name}", "")
        subject.gives(sorted(names), "list", "d")

    def test_list_is_sorted_however_many_there_are(self) -> None:
        subject = self._empty()
        names = [f"{number:x}" for number in range(40)]
        for name in names:
            subject.do("write_text", f"d/{name}", "")
        subject.gives(sorted(names), "list", "d")

    def test_files_and_directories_are_distinguished(self) -> None:
        subject = self._filled()

        def kinds(path: str, *expected: bool) -> None:
            for operation, answer in zip(_LOOKS, expected, strict=True):
                subject.gives(answer, operation, path)

        kinds("file", True, True, False)
        subject.do("write_bytes", "nothing", b"")
        kinds("nothing", True, True, False)
        for path in ("dir", "empty", "."):
            kinds(path, True, False, True)
        for path in ("missing", "file/x", "no/such"):
            kinds(path, False, False, False)

    def test_a_path_may_be_written_in_many_ways(self) -> None:
        def check(path: str) -> None:
            subject = self._empty()
            subject.do("write_text", path, "1")
            subject.gives("1", "read_text", "a/b")
            subject.gives("1", "read_text", path)
            subject.gives(["a"], "list", ".")
            subject.gives(["b"], "list", "a")
            subject.do("delete", path)
            subject.gives([], "list", "a")

        each(zip(["./a/b", "a//b", "a/./b", "a/b/", "x/../a/b", "a/b/c/.."]), check)

    def test_unusual_names_are_names(self) -> None:
        def check(name: str) -> None:
            subject = self._empty()
            subject.do("write_text", f"d/{name}", "1")
            subject.gives([name], "list", "d")
            subject.gives("1", "read_text", f"d/{name}")
            found = subject.do("stat", f"d/{name}").name
            subject.holds(found == name, f"the name must be {name!r}, but is {found!r}")

        names = ["..foo", "...", ".f", "a b", "-", "#%?*"]
        if self.unusual_names:
            names += ["a\nb", "\\", "ü" * 127, "n" * 255, os.fsdecode(b"\xff"), "e\u0301"]
        each(zip(names), check)

    def test_names_are_not_patterns(self) -> None:
        def check(name: str) -> None:
            subject = self._empty()
            for path in (name, "axb", "a-b", "ab"):
                subject.do("write_text", f"{path}/f", path)
            subject.do("rename", name, "moved")
            subject.gives(["a-b", "ab", "axb", "moved"], "list", ".")
            subject.gives(["f"], "list", "axb")
            subject.do("rename", "moved", name)
            subject.do("delete_all", name)
            subject.gives(["a-b", "ab", "axb"], "list", ".")
            subject.gives("ab", "read_text", "ab/f")
            subject.gives("axb", "read_text", "axb/f")

        names = ["a_b", "a%", "a.b", "a[x]b", "{ab,axb}"]
        each(zip(names + ["a*", "a?b"] * self.unusual_names), check)

    def test_upper_and_lower_case_are_different_names(self) -> None:
        if self.case_sensitive:
            subject = self._empty()
            subject.do("write_text", "a", "lower")
            subject.do("write_text", "A", "upper")
            subject.gives("lower", "read_text", "a")
            subject.gives(["A", "a"], "list", ".")

    def test_every_operation_refuses_an_impossible_path(self) -> None:
        operations = [*_READS, *_WRITES, *_LOOKS, "stat", "list", "ensure_dir"]
        operations += ["rename", "delete", "delete_all"]
        paths = ["", "\0", "a/b\0", "n" * 256, "a/" + "n" * 256 + "/b", "\ud800"]
        self._each_refuses(InvalidPathError, operations, paths)

    def test_rename_refuses_an_impossible_new_path(self) -> None:
        def check(path: str) -> None:
            subject = self._filled()
            subject.refuses(InvalidPathError, "rename", "file", path)
            subject.gives(b"old", "read_bytes", "file")

        each(zip(["", "\0", "n" * 256, "."]), check)

    def test_a_missing_path_is_not_found(self) -> None:
        operations = [*_READS, "stat", "list", "rename", "delete"]
        self._each_refuses(
            PathNotFoundError, operations, ["missing", "dir/missing", "no/such/path"]
        )

    def test_an_error_has_the_path_as_it_was_given(self) -> None:
        operations = [*_READS, "stat", "list", "rename", "delete"]
        self._each_refuses(PathNotFoundError, operations, ["./missing", "dir//no", "dir/../no/"])
        self._each_refuses(
            PathIsDirectoryError, [*_READS, *_WRITES], ["./dir", "empty/", "x/../dir"]
        )

    def test_a_directory_is_not_a_file(self) -> None:
        self._each_refuses(PathIsDirectoryError, [*_READS, *_WRITES], ["dir", "empty", "."])

    def test_a_file_is_not_a_directory(self) -> None:
        operations = [*_READS, *_WRITES, "stat", "list", "ensure_dir", "delete"]
        self._each_refuses(PathNotDirectoryError, operations, ["file/x", "file/x/y"])
        self._each_refuses(PathNotDirectoryError, ["list", "ensure_dir"], ["file"])

    def test_the_root_stays(self) -> None:
        self._each_refuses(InvalidPathError, ["delete", "delete_all", "rename"], [".", "dir/.."])

    def test_rename_replaces_a_file_and_makes_parents(self) -> None:
        subject = self._filled()
        subject.do("rename", "file", "dir/inner")
        subject.gives(b"old", "read_bytes", "dir/inner")
        subject.gives(False, "exists", "file")
        subject.do("rename", "dir/inner", "new/place/name")
        subject.gives(b"old", "read_bytes", "new/place/name")
        subject.gives([], "list", "dir")

    def test_rename_moves_a_whole_directory_tree(self) -> None:
        subject = self._empty()
        subject.do("write_text", "a/b/c", "1")
        subject.do("ensure_dir", "a/d")
        subject.do("rename", "a", "z")
        for gone in ("a", "a/b", "a/b/c"):
            subject.gives(False, "exists", gone)
        subject.gives(["z"], "list", ".")
        subject.gives(["b", "d"], "list", "z")
        subject.gives("1", "read_text", "z/b/c")

    def test_rename_moves_deep_entries_and_none_with_a_similar_name(self) -> None:
        subject = self._empty()
        for path in ("dir/a/b/c/file", "dirt", "dir.old/file", "other/dir"):
            subject.do("write_text", path, path)
        subject.do("rename", "dir", "new")
        subject.gives(["dir.old", "dirt", "new", "other"], "list", ".")
        subject.gives("dir/a/b/c/file", "read_text", "new/a/b/c/file")
        for path in ("dirt", "dir.old/file", "other/dir"):
            subject.gives(path, "read_text", path)

    def test_rename_keeps_the_time_of_the_last_write(self) -> None:
        if not self.times:
            return
        subject = self._filled()
        before = subject.do("stat", "file").modified
        subject.do("rename", "file", "dir/moved")
        after = subject.do("stat", "dir/moved").modified
        subject.holds(before == after, f"modified must stay {before}, but is {after}")

    def test_rename_reports_the_old_path_if_both_are_wrong(self) -> None:
        subject = self._filled()
        for old in (".", "dir/.."):
            try:
                subject.medium.rename(old, "")
            except InvalidPathError as error:
                subject.holds(
                    error.facts.get("path") == old,
                    f"the error of rename({old!r}, '') has path={old!r}",
                )
            else:
                subject.holds(fact=False, what=f"rename({old!r}, '') raises InvalidPathError")

    def test_rename_to_itself_changes_nothing(self) -> None:
        subject = self._filled()
        subject.do("rename", "file", "./file")
        subject.do("rename", "dir", "dir/")
        self._is_as_filled(subject)

    def test_an_impossible_rename_changes_nothing(self) -> None:
        def check(old: str, new: str, kind: type[CoreInfraError]) -> None:
            subject = self._filled()
            subject.refuses(kind, "rename", old, new)
            self._is_as_filled(subject)

        each(
            [
                ("file", "dir", PathExistsError),
                ("file", "empty", PathExistsError),
                ("dir", "empty", PathExistsError),
                ("dir", "file", PathExistsError),
                ("dir", "dir/inner", InvalidPathError),
                ("dir", "dir/x/y", InvalidPathError),
                ("file", "file/x", PathNotDirectoryError),
                ("dir/inner", "file/x", PathNotDirectoryError),
                (".", "x", InvalidPathError),
                ("missing", "file", PathNotFoundError),
            ],
            check,
        )

    def test_delete_removes_only_a_file_or_an_empty_directory(self) -> None:
        subject = self._filled()
        subject.refuses(DirectoryNotEmptyError, "delete", "dir")
        self._is_as_filled(subject)
        subject.do("ensure_dir", "outer/inner")
        subject.refuses(DirectoryNotEmptyError, "delete", "outer")
        subject.do("delete", "outer/inner")
        subject.do("delete", "outer")
        subject.do("delete", "file")
        subject.do("delete", "empty")
        subject.gives(["dir"], "list", ".")

    def test_delete_all_removes_everything_and_ignores_missing_paths(self) -> None:
        subject = self._filled()
        subject.do("write_text", "dir/sub/deep", "1")
        subject.do("write_text", "dirt", "not in dir")
        for path in ("dir", "dir", "file", "no/such", "empty/x", "dirt/x"):
            subject.do("delete_all", path)
        subject.gives(["dirt", "empty"], "list", ".")
        subject.gives(False, "exists", "dir/sub/deep")
        subject.do("write_text", "dir/again", "1")
        subject.gives(["again"], "list", "dir")

    def test_ensure_dir_makes_parents_and_keeps_existing_entries(self) -> None:
        subject = self._filled()
        subject.do("ensure_dir", "a/b/c")
        subject.do("ensure_dir", "dir")
        subject.do("ensure_dir", ".")
        subject.gives(True, "is_dir", "a/b/c")
        subject.gives(["inner"], "list", "dir")

    def test_a_tree_can_be_copied_to_another_medium_and_back(self) -> None:
        there, back = MemoryMedium(), self._empty()
        subject = self._empty()
        subject.do("write_bytes", "a/run", b"#!" * 100_000, mode=0o755)
        subject.do("ensure_dir", "a/empty")
        copy(subject.medium, "a", there, "b")
        copy(there, "b", back.medium, "to/a")
        back.note("copy of a tree with the files and directories run, empty/")
        back.gives(["empty", "run"], "list", "to/a")
        back.gives(b"#!" * 100_000, "read_bytes", "to/a/run")
        if self.modes:
            mode = back.do("stat", "to/a/run").mode
            back.holds(mode == 0o755, f"a copy must keep the mode 755, but has {mode:o}")

    def _each_refuses(
        self, kind: type[CoreInfraError], operations: list[str], paths: list[str]
    ) -> None:
        def check(operation: str, path: str) -> None:
            subject = self._filled()
            subject.refuses(kind, operation, path, *_MORE.get(operation, ()))
            self._is_as_filled(subject)

        each(itertools.product(operations, paths), check)

    @staticmethod
    def _is_as_filled(subject: Subject) -> None:
        subject.gives(["dir", "empty", "file"], "list", ".")
        subject.gives(["inner"], "list", "dir")
        subject.gives(b"old", "read_bytes", "file")
