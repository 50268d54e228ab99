"""The medium in memory gives the answers and the errors of the real file system."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core_infra.errors import CoreInfraError
from core_infra.medium import LocalMedium, Medium, MemoryMedium

if TYPE_CHECKING:
    from collections.abc import Callable

names = st.sampled_from(["a", "b", "c"])
plain = st.lists(names, min_size=1, max_size=3).map("/".join)
# Strange forms of the same few paths; none of them climbs out of the temporary directory.
strange = st.one_of(
    plain.map("./{}".format),
    plain.map("{}/".format),
    plain.map("{}/.".format),
    plain.map("{}/..".format),
    st.tuples(plain, names).map("/../".join),
    st.tuples(plain, names).map("//".join),
    st.sampled_from([".", "", "a\0", "é", "..a", "a/" + "n" * 256, "a/.core-infra-tmp-x"]),
)
paths = st.one_of(plain, plain, plain, strange)
data = st.binary(max_size=8)
modes = st.none() | st.integers(0, 0o777)


def outcome(operation: Callable[[Medium], Any], medium: Medium) -> Any:
    try:
        return operation(medium)
    except CoreInfraError as error:
        facts = error.facts
        return type(error), error.why, error.todo, facts["path"], facts.get("errno")


class BothMedia(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.before = os.umask(0o022)
        self.directory = tempfile.TemporaryDirectory()
        Path(self.directory.name).chmod(0o755)
        self.local = LocalMedium(self.directory.name)
        self.memory = MemoryMedium()

    def teardown(self) -> None:
        self.directory.cleanup()
        os.umask(self.before)

    def both(self, operation: Callable[[Medium], Any]) -> None:
        assert outcome(operation, self.memory) == outcome(operation, self.local)

    @rule(path=paths, data=data, mode=modes)
    def write(self, path: str, data: bytes, mode: int | None) -> None:
        self.both(lambda medium: medium.write_bytes(path, data, mode=mode))

    @rule(path=paths, data=data, mode=modes, whole=st.booleans())
    def create(self, path: str, data: bytes, mode: int | None, *, whole: bool) -> None:
        def operation(medium: Medium) -> None:
            with contextlib.suppress(KeyError), medium.create(path, mode=mode) as writer:
                writer.write(data)
                if not whole:
                    raise KeyError

        self.both(operation)

    @rule(path=paths, data=data)
    def append(self, path: str, data: bytes) -> None:
        def operation(medium: Medium) -> None:
            with medium.append(path) as writer:
                writer.write(data)

        self.both(operation)

    @rule(path=paths)
    def read(self, path: str) -> None:
        def operation(medium: Medium) -> bytes:
            with medium.open(path) as reader:
                return reader.read()

        self.both(operation)
        self.both(lambda medium: medium.read_bytes(path))
        self.both(lambda medium: medium.read_text(path))

    @rule(path=paths)
    def look(self, path: str) -> None:
        self.both(lambda medium: medium.stat(path)._replace(modified=0))
        self.both(lambda medium: medium.list(path))
        self.both(lambda medium: medium.exists(path))
        self.both(lambda medium: medium.is_file(path))
        self.both(lambda medium: medium.is_dir(path))

    @rule(path=paths)
    def ensure_dir(self, path: str) -> None:
        self.both(lambda medium: medium.ensure_dir(path))

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        self.both(lambda medium: medium.rename(old, new))

    @rule(path=paths)
    def delete(self, path: str) -> None:
        self.both(lambda medium: medium.delete(path))

    @rule(path=paths)
    def delete_all(self, path: str) -> None:
        self.both(lambda medium: medium.delete_all(path))

    @invariant()
    def same_tree(self) -> None:
        assert tree(self.memory) == tree(self.local)


def tree(medium: Medium, path: str = ".") -> dict[str, Any]:
    info = medium.stat(path)
    if not info.is_dir:
        return {path: (info.mode, info.size, medium.read_bytes(path))}
    found: dict[str, Any] = {path: info.mode}
    for name in medium.list(path):
        found |= tree(medium, f"{path}/{name}")
    return found


TestBothMedia = BothMedia.TestCase
TestBothMedia.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
