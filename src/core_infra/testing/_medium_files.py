"""The part of the medium contract about files."""

from __future__ import annotations

import gc
import io
import tarfile
import threading
import time
import warnings
from pathlib import PurePosixPath

from core_infra.medium._errors import InvalidPathError, InvalidTextError, PathNotFoundError
from core_infra.medium._medium import FileInfo
from core_infra.testing._medium_subject import Contract, described

_ALL_BYTES = bytes(range(256)) * 1000
_HOUR = 3600
_CLOCK = 5
_APPENDS = 200


class _Failure(Exception):  # noqa: N818 - stands for any failure in a block
    pass


class FileContract(Contract):
    """Content, modes, writers and readers."""

    def test_bytes_come_back_as_written(self) -> None:
        subject = self._empty()
        for data in (b"", b"a\r\nb\n\0", _ALL_BYTES, _ALL_BYTES * 12):
            subject.do("write_bytes", "f", data)
            subject.gives(data, "read_bytes", "f")

    def test_text_is_utf8_and_keeps_its_line_ends(self) -> None:
        subject = self._empty()
        for text in ("", "grüße ☃\n", "a\r\nb\rc\n", "\ufeffmarked"):
            subject.do("write_text", "f", text)
            subject.gives(text, "read_text", "f")
            subject.gives(text.encode(), "read_bytes", "f")
            size, found = len(text.encode()), subject.do("stat", "f").size
            subject.holds(size == found, f"the size must be {size} bytes, but is {found}")

    def test_reading_bytes_that_are_not_utf8_as_text_is_refused(self) -> None:
        subject = self._empty()
        subject.do("write_bytes", "f", b"ab\xff")
        subject.refuses(InvalidTextError, "read_text", "f")

    def test_text_without_utf8_form_is_refused_and_nothing_is_written(self) -> None:
        subject = self._filled()
        subject.refuses(InvalidTextError, "write_text", "f", "a\ud800")
        subject.refuses(InvalidTextError, "write_text", "file", "a\ud800")
        subject.gives(False, "exists", "f")
        subject.gives(b"old", "read_bytes", "file")

    def test_nothing_can_be_written_over_something(self) -> None:
        subject = self._empty()
        for operation, nothing in (("write_bytes", b""), ("write_text", "")):
            subject.do("write_bytes", "f", b"something")
            subject.do(operation, "f", nothing)
            subject.gives(b"", "read_bytes", "f")

    def test_path_objects_are_paths(self) -> None:
        subject, path = self._filled(), PurePosixPath("dir/new")
        subject.do("write_bytes", path, b"1")
        subject.gives(b"1", "read_bytes", "dir/new")
        subject.gives(b"1", "read_bytes", path)
        subject.gives(["inner", "new"], "list", path.parent)
        subject.holds(subject.do("stat", path).name == "new", f"the name must be 'new': {path!r}")
        subject.do("rename", path, PurePosixPath("dir/newer"))
        subject.do("delete", PurePosixPath("dir/newer"))
        subject.gives(False, "exists", path)
        subject.refuses(PathNotFoundError, "read_bytes", path)

    def test_values_that_are_not_paths_are_refused(self) -> None:
        for path in (b"file", 5, None, ["file"]):
            subject = self._filled()
            subject.refuses(InvalidPathError, "read_bytes", path)
            subject.refuses(InvalidPathError, "write_bytes", path, b"new")
            subject.refuses(InvalidPathError, "delete_all", path)
            subject.gives(b"old", "read_bytes", "file")

    def test_only_bytes_are_written(self) -> None:
        for data in (5, "text", [1, 2], None):
            subject = self._filled()
            try:
                subject.medium.write_bytes("file", data)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - any error is right
                subject.note(f"write_bytes('file', {data!r}), refused with {described(error)}")
            else:
                subject.holds(False, f"write_bytes('file', {data!r}) must be refused")
            subject.gives(b"old", "read_bytes", "file")

    def test_writing_makes_parents_and_replaces(self) -> None:
        subject = self._empty()
        subject.do("write_text", "a/b/c", "long old content")
        subject.do("write_text", "a/b/c", "new")
        subject.gives("new", "read_text", "a/b/c")
        subject.gives(["b"], "list", "a")

    def test_new_entries_have_the_usual_modes(self) -> None:
        if self.modes:
            subject = self._empty()
            subject.do("write_text", "d/f", "")
            modes = subject.do("stat", "d").mode, subject.do("stat", "d/f").mode
            subject.holds(modes == (0o755, 0o644), f"modes must be 755 and 644, not {modes}")

    def test_a_mode_is_set_as_given_and_kept_by_later_writes(self) -> None:
        if not self.modes:
            return
        subject = self._empty()

        def must_be(mode: int) -> None:
            found = subject.do("stat", "f").mode
            subject.holds(found == mode, f"the mode must be {mode:o}, but is {found:o}")

        subject.do("write_text", "f", "1", mode=0o4777)
        must_be(0o777)
        subject.do("write_text", "f", "2")
        must_be(0o777)
        subject.do("write_text", "f", "3", mode=0o600)
        with subject.do("append", "f") as writer:
            writer.write(b"4")
        must_be(0o600)
        with subject.do("create", "f") as writer:
            writer.write(b"5")
        must_be(0o600)
        subject.do("write_text", "f", "6", mode=0o600)
        subject.do("write_text", "g", "7", mode=0o640)
        subject.do("rename", "g", "f")
        must_be(0o640)
        subject.do("write_text", "f", "8", mode=0)
        must_be(0)

    def test_stat_describes_files_and_directories(self) -> None:
        subject = self._filled()

        def must_be(path: str, name: str, size: int, *, is_dir: bool) -> None:
            info = subject.do("stat", path)
            expected = FileInfo(name, size, info.mode, info.modified, is_dir)
            subject.holds(info == expected, f"stat({path!r}) must give {expected}, but gave {info}")
            if self.times:
                subject.holds(
                    abs(time.time() - info.modified) < _HOUR,
                    f"{path!r} was modified just now, but stat says {info.modified}",
                )

        must_be("dir/inner", "inner", 1, is_dir=False)
        must_be("file", "file", 3, is_dir=False)
        must_be("./dir/", "dir", 0, is_dir=True)
        must_be(".", ".", 0, is_dir=True)

    def test_the_time_of_the_last_write_is_kept(self) -> None:
        if not self.times:
            return
        for operation in ("write_bytes", "append"):
            subject = self._filled()
            first = subject.do("stat", "file").modified
            end = time.monotonic() + _CLOCK
            # Clocks of file systems are coarse: by up to two seconds.
            while subject.medium.stat("file").modified == first and time.monotonic() < end:
                if operation == "append":
                    with subject.medium.append("file") as writer:
                        writer.write(b"+")
                else:
                    subject.medium.write_bytes("file", b"old")
            subject.note(f"{operation} to it for {_CLOCK} seconds, over and over")
            subject.holds(
                subject.do("stat", "file").modified > first,
                f"modified must be the time of the last write, but is still {first}",
            )

    def test_create_shows_the_file_when_it_is_closed(self) -> None:
        subject = self._filled()
        writer = subject.do("create", "new/file")
        writer.write(b"half")
        writer.flush()
        subject.note("write to it and flush, but not close")
        subject.gives(False, "exists", "new/file")
        subject.gives([], "list", "new")
        writer.close()
        writer.close()
        subject.note("close it, twice")
        subject.gives(b"half", "read_bytes", "new/file")

    def test_create_keeps_the_old_file_when_its_block_fails(self) -> None:
        subject = self._filled()
        try:
            with subject.do("create", "file") as writer:
                writer.write(b"x" * 200_000)
                raise _Failure
        except _Failure:
            subject.note("write to it, and leave the block by an exception")
        subject.gives(b"old", "read_bytes", "file")
        subject.gives(["dir", "empty", "file"], "list", ".")

    def test_a_writer_that_is_never_closed_writes_nothing(self) -> None:
        subject = self._filled()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            subject.do("create", "file").write(b"half")
            gc.collect()
        subject.note("write to it, and never close it")
        subject.gives(b"old", "read_bytes", "file")

    def test_writers_copy_the_data_that_they_are_given(self) -> None:
        for operation in ("create", "append"):
            subject = self._empty()
            buffer = bytearray(b"given")
            with subject.do(operation, "f") as writer:
                writer.write(buffer)
                buffer[:] = b"later"
            subject.note("write a bytearray, and then change it")
            subject.gives(b"given", "read_bytes", "f")

    def test_the_writer_of_create_is_seekable(self) -> None:
        if not self.seekable:
            return
        subject = self._empty()
        with (
            subject.do("create", "a.tar") as raw,
            tarfile.open(fileobj=raw, mode="w") as tar,
        ):
            tar.addfile(tarfile.TarInfo("member"), io.BytesIO())
        with subject.do("open", "a.tar") as raw, tarfile.open(fileobj=raw) as tar:
            subject.holds(tar.getnames() == ["member"], "an archive must come back as written")
        with subject.do("create", "f") as raw:
            raw.write(b"abc")
            raw.seek(1)
            raw.write(b"B")
        subject.note("write b'abc', seek to 1, write b'B'")
        subject.gives(b"aBc", "read_bytes", "f")

    def test_append_adds_to_the_existing_content(self) -> None:
        subject = self._filled()
        for path, before in (("file", b"old"), ("new/log", b"")):
            for piece in (b"1", b"2"):
                with subject.do("append", path) as writer:
                    writer.write(piece)
                subject.note(f"write {piece!r}")
            subject.gives(before + b"12", "read_bytes", path)
            size = subject.do("stat", path).size
            subject.holds(size == len(before) + 2, f"the size of {path!r} must follow, not {size}")

    def test_append_shows_what_is_flushed_and_two_can_append(self) -> None:
        subject = self._empty()
        with subject.do("append", "f") as first, subject.do("append", "f") as second:
            subject.gives(b"", "read_bytes", "f")
            for writer in (first, second, first):
                writer.write(b"x")
                writer.flush()
            subject.note("write b'x' and flush by the first, the second, the first")
            subject.gives(b"xxx", "read_bytes", "f")

    def test_append_keeps_what_was_written_before_a_failure(self) -> None:
        subject = self._empty()
        try:
            with subject.do("append", "f") as writer:
                writer.write(b"kept")
                raise _Failure
        except _Failure:
            subject.note("write b'kept', and leave the block by an exception")
        subject.gives(b"kept", "read_bytes", "f")

    def test_a_reader_keeps_the_version_that_it_opened(self) -> None:
        if self.snapshots:
            subject = self._filled()
            with subject.do("open", "file") as reader:
                subject.do("write_bytes", "file", b"changed")
                subject.do("delete", "file")
                found = reader.read()
            subject.holds(found == b"old", f"the reader must read b'old', but read {found!r}")

    def test_a_reader_reads_lines_and_pieces(self) -> None:
        subject = self._empty()
        subject.do("write_bytes", "f", b"1\n2\n3")
        with subject.do("open", "f") as reader:
            found = next(reader), reader.read(1), reader.seek(-1, io.SEEK_END), reader.read()
        expected = (b"1\n", b"2", 4, b"3")
        subject.holds(found == expected, f"the reader must give {expected}, but gave {found}")

    def test_threads_that_append_lose_nothing(self) -> None:
        if not self.threads:
            return
        subject = self._empty()

        def append(letter: bytes) -> None:
            for _ in range(_APPENDS):
                with subject.medium.append("f") as writer:
                    writer.write(letter)

        threads = [threading.Thread(target=append, args=(letter,)) for letter in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = subject.medium.read_bytes("f")
        counts = found.count(b"a"), found.count(b"b")
        subject.holds(
            counts == (_APPENDS, _APPENDS),
            f"two threads appended {_APPENDS} bytes each, but {counts} are there",
        )

    def test_threads_that_write_one_file_never_mix(self) -> None:
        if not self.threads:
            return
        subject = self._empty()
        medium = subject.medium
        mixed: list[object] = []

        def write(letter: bytes) -> None:
            try:
                for _ in range(10):
                    medium.write_bytes("f", letter * 50_000)
                    data = medium.read_bytes("f")
                    if data not in (b"a" * 50_000, b"b" * 50_000):
                        mixed.append(f"{len(data)} bytes of {set(data)}")
            except Exception as error:  # noqa: BLE001 - reported by the test's own thread
                mixed.append(error)

        threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        subject.holds(not mixed, f"two threads wrote whole versions, but a reader saw {mixed}")
