"""Links in a tree in memory: as in a sandbox on disk."""

from __future__ import annotations

import io
import itertools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_infra.errors import CoreInfraError
from core_infra.medium import (
    FakeMedium,
    InvalidPathError,
    LocalMedium,
    MemoryMedium,
    OutsideSandboxError,
    PathExistsError,
    PathNotFoundError,
    SandboxMedium,
    copy,
    pack,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.medium import Medium

Step = tuple[str, str, str]

_names = st.sampled_from(["a", "b", "c"])
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)
_texts = st.one_of(
    _paths,
    _paths.map("../{}".format),
    st.tuples(_names, _names).map("/../".join),
    st.sampled_from([".", "..", "../..", "/", "/a", "a/", "b/.", "a//b"]),
)
_reads = st.sampled_from(["read_bytes", "stat", "list", "exists", "is_dir"])
_changes = st.sampled_from(["write", "append", "create", "ensure_dir", "delete", "delete_all"])
_steps = st.one_of(
    st.tuples(st.just("link"), _paths, _texts),
    st.tuples(st.just("link"), _paths, _texts),
    st.tuples(_changes, _paths, st.just("")),
    st.tuples(st.just("rename"), _paths, _paths),
    st.tuples(_reads, _paths, st.just("")),
)


def take(medium: Medium, step: Step) -> object:
    what, path, other = step
    try:
        if what == "write":
            medium.write_bytes(path, path.encode())
        elif what in {"append", "create"}:
            with getattr(medium, what)(path) as writer:
                writer.write(b"+")
        elif what == "rename":
            medium.rename(path, other)
        elif what == "stat":
            info = medium.stat(path)
            return info.name, info.size, info.mode, info.is_dir
        else:
            return getattr(medium, what)(path)
    except CoreInfraError as error:
        return type(error), error.path, error.why
    return None


def tree(medium: Medium) -> list[object]:
    paths = [*"abc", *map("/".join, itertools.product("abc", repeat=2))]
    looks = itertools.product(["list", "read_bytes", "stat"], paths)
    return [take(medium, (what, path, "")) for what, path in looks]


def link_in_all(media: list[MemoryMedium | FakeMedium], root: Path, path: str, text: str) -> None:
    """Put a link where the disk has a directory for it and nothing in its place, in all."""
    real = f"{root}/{path}"
    above = os.path.dirname(real)  # noqa: PTH120 - as text
    if os.path.realpath(above) == above and os.path.isdir(above) and not os.path.lexists(real):  # noqa: PTH112
        os.symlink(text, real)  # noqa: PTH211 - Path would take "a/." for "a"
        for medium in media:
            if isinstance(medium, FakeMedium):
                medium.filesystem.create_symlink(f"/{path}", text)
            else:
                medium.link(path, text)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(_steps, max_size=14), st.integers(0, 14))
def test_random_operations_give_the_answers_of_a_sandbox(steps: list[Step], fork: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve() / "root"
        root.mkdir(mode=0o755)
        disk, memory = SandboxMedium(root), MemoryMedium()
        for number, step in enumerate(steps):
            if number == fork:
                memory = memory.fork()
            if step[0] == "link":
                link_in_all([memory], root, *step[1:])
            else:
                assert take(memory, step) == take(disk, step), step
            assert tree(memory) == tree(disk)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(_steps, max_size=14))
def test_a_fake_file_system_gives_the_answers_of_a_sandbox(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve() / "root"
        root.mkdir(mode=0o755)
        disk, fake = SandboxMedium(root), FakeMedium()
        fake.filesystem.chmod("/", 0o755)  # anybody may write there if we are not root
        for step in steps:
            if step[0] != "link":
                assert take(fake, step) == take(disk, step), step
            elif not step[2].startswith("/"):  # which a sandbox does not follow
                link_in_all([fake], root, *step[1:])
            assert tree(fake) == tree(disk)


def test_a_fake_file_system_follows_links_that_begin_at_its_root() -> None:
    fake = FakeMedium()
    fake.write_text("etc/app/conf", "1")
    fake.filesystem.create_symlink("/home/u/conf", "/etc/app/conf")
    fake.write_text("home/u/conf", "2")
    assert fake.read_text("etc/app/conf") == "2"
    assert fake.filesystem.islink("/home/u/conf")


class Linking:
    """A medium of any kind, and how a link is put into it."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.directory = directory
        kinds: dict[str, Callable[[], Medium]] = {
            "memory": MemoryMedium,
            "local": lambda: LocalMedium(directory),
            "sandbox": lambda: SandboxMedium(directory),
            "fake": FakeMedium,
        }
        self.medium = kinds[kind]()

    def link(self, path: str, text: str) -> None:
        if isinstance(self.medium, MemoryMedium):
            self.medium.link(path, text)
        elif isinstance(self.medium, FakeMedium):
            self.medium.filesystem.create_symlink(f"/{path}", text)
        else:
            (self.directory / path).symlink_to(text)

    def point_elsewhere(self, path: str, text: str) -> None:
        self.medium.delete(path)
        self.link(path, text)


@pytest.fixture(params=["memory", "local", "sandbox", "fake"])
def any_medium(request: pytest.FixtureRequest, tmp_path: Path) -> Linking:
    return Linking(request.param, tmp_path)


def test_what_is_created_goes_to_where_the_link_led_when_it_was_begun(any_medium: Linking) -> None:
    medium = any_medium.medium
    medium.write_text("a", "A")
    medium.write_text("b", "B")
    any_medium.link("l", "a")
    with medium.create("l") as writer:
        writer.write(b"new")
        any_medium.point_elsewhere("l", "b")
    assert (medium.read_text("a"), medium.read_text("b")) == ("new", "B")


@pytest.mark.parametrize("action", ["copy", "pack"])
def test_links_that_lead_back_to_a_directory_above_are_an_error(
    any_medium: Linking, action: str
) -> None:
    medium = any_medium.medium
    for package, other in (("a", "b"), ("b", "a")):  # as pnpm does for packages that need another
        medium.write_text(f"p/{package}/index.js", package)
        medium.ensure_dir(f"p/{package}/node_modules")
        any_medium.link(f"p/{package}/node_modules/{other}", f"../../{other}")
    act: dict[str, Callable[[], None]] = {
        "copy": lambda: copy(medium, "p", MemoryMedium(), "q"),
        "pack": lambda: pack(medium, "p", io.BytesIO()),
    }
    with pytest.raises(InvalidPathError, match="lead back to 'p/a', which it is in"):
        act[action]()


def test_a_link_that_leads_to_a_directory_beside_it_is_copied_as_that(any_medium: Linking) -> None:
    medium, target = any_medium.medium, MemoryMedium()
    medium.write_text("p/v1/f", "1")
    any_medium.link("p/current", "v1")
    any_medium.link("p/again", "current")
    copy(medium, "p", target, "q")
    assert [target.read_text(f"q/{name}/f") for name in target.list("q")] == ["1", "1", "1"]


@pytest.fixture
def linked() -> MemoryMedium:
    medium = MemoryMedium()
    medium.write_text("lib/v1/f", "1")
    medium.link("lib/current", "v1")
    return medium


def test_a_link_is_followed_and_can_itself_be_moved_and_deleted(linked: MemoryMedium) -> None:
    assert linked.read_text("lib/current/f") == "1"
    assert linked.stat("lib/current").is_dir
    linked.rename("lib/current", "lib/latest")
    assert linked.list("lib") == ["latest", "v1"]
    linked.delete_all("lib/latest")
    assert linked.read_text("lib/v1/f") == "1"


def test_a_link_may_dangle_and_a_write_then_makes_its_target(linked: MemoryMedium) -> None:
    linked.link("deep/link", "../not/yet")
    with pytest.raises(PathNotFoundError):
        linked.read_text("deep/link")
    linked.write_text("deep/link", "2")
    assert linked.read_text("not/yet") == "2"


@pytest.mark.parametrize("text", ["/etc/passwd", "../..", "../lib/../../y"])
def test_following_a_link_that_leads_out_is_refused(linked: MemoryMedium, text: str) -> None:
    linked.link("lib/out", text)
    for operation in (linked.read_text, linked.list, linked.exists, linked.create):
        with pytest.raises(OutsideSandboxError) as caught:
            operation("lib/out")
        assert caught.value.path == "lib/out"
    linked.delete("lib/out")


def test_circular_links_are_reported(linked: MemoryMedium) -> None:
    linked.link("a", "b")
    linked.link("b", "a")
    for operation in (linked.read_text, linked.create, linked.list, linked.ensure_dir):
        with pytest.raises(InvalidPathError, match="circle"):
            operation("a")


def test_a_link_is_put_where_nothing_is(linked: MemoryMedium) -> None:
    for path in ("lib", "lib/v1/f", "lib/current"):
        with pytest.raises(PathExistsError):
            linked.link(path, "x")
    for text in ("", "a\0", "n" * 256):
        with pytest.raises(InvalidPathError):
            linked.link("new", text)


def test_a_fork_has_links_of_its_own_and_the_difference_shows_them(linked: MemoryMedium) -> None:
    fork = linked.fork()
    fork.delete("lib/current")
    fork.link("lib/current", "v2")
    fork.link("new", "lib")
    assert linked.read_text("lib/current/f") == "1"
    assert not fork.exists("lib/current")
    assert str(linked.diff(fork)).splitlines() == [
        "~ lib/current -> v1 → lib/current -> v2",
        "+ new -> lib",
    ]
    fork.delete("lib/current")
    fork.link("lib/current", "v1")
    assert linked.diff(fork).changed == ()
