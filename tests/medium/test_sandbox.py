"""Nothing leads out of a sandbox; the kernel's way and the walked one give the same answers."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import errno
import gc
import itertools
import os
import pickle
import signal
import socket
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import CoreInfraError, WrongStateError
from core_infra.medium import (
    InvalidPathError,
    LocalMedium,
    Medium,
    OutsideSandboxError,
    PathNotDirectoryError,
    PathNotFoundError,
    SandboxMedium,
)
from core_infra.medium._beneath import kernel_can

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OPERATIONS: dict[str, Callable[[Medium, str], object]] = {
    "read_bytes": lambda m, p: m.read_bytes(p),
    "open": lambda m, p: m.open(p),
    "write_bytes": lambda m, p: m.write_bytes(p, b"new"),
    "create": lambda m, p: m.create(p),
    "append": lambda m, p: m.append(p),
    "stat": lambda m, p: m.stat(p),
    "exists": lambda m, p: m.exists(p),
    "list": lambda m, p: m.list(p),
    "ensure_dir": lambda m, p: m.ensure_dir(p),
    "rename": lambda m, p: m.rename(p, "elsewhere"),
    "rename to": lambda m, p: m.rename("inside/f", p),
    "delete": lambda m, p: m.delete(p),
    "delete_all": lambda m, p: m.delete_all(p),
}
OF_THE_LINK = {"rename", "rename to", "delete", "delete_all"}
"""What is done to a link and not to what it points to."""

LINKS = {
    "absolute": "{out}",
    "relative": "../out",
    "file": "{out}/f",
    "dangling": "{out}/new",
    "dangling deep": "../out/no/such/new",
    "up": "..",
    "round": "inside/../../root/inside",
    "second": "relative",
    "slash": "/",
    "magic": "/proc/self/root",
}

ways = pytest.mark.parametrize("by_kernel", [True, False], ids=["kernel", "walking"])


@pytest.fixture(params=[True, False], ids=["kernel", "walking"])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> SandboxMedium:
    return make(tmp_path, by_kernel=request.param)


def make(tmp_path: Path, *, by_kernel: bool) -> SandboxMedium:
    if by_kernel and not kernel_can():
        pytest.skip("this kernel has no openat2")
    out = tmp_path / "out"
    out.mkdir()
    (out / "f").write_text("secret")
    medium = SandboxMedium(tmp_path / "root", by_kernel=by_kernel)
    medium.write_text("inside/f", "inside")
    for name, target in LINKS.items():
        (tmp_path / "root" / name).symlink_to(target.format(out=out))
    return medium


def untouched(tmp_path: Path) -> bool:
    return (
        sorted(os.listdir(tmp_path)) == ["out", "root"]  # noqa: PTH208 - names are compared
        and [path.name for path in (tmp_path / "out").iterdir()] == ["f"]
        and (tmp_path / "out/f").read_text() == "secret"
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_path_leads_out_and_all_get_the_same_error(
    tmp_path: Path, sandbox: SandboxMedium, operation: str
) -> None:
    plain = ["..", "../out/f", "inside/../../out/f", "/", "/etc/passwd", f"{tmp_path}/root/inside"]
    through = [f"{link}{rest}" for link, rest in itertools.product(LINKS, ["/f", "/x/y"])]
    at = [] if operation in OF_THE_LINK else list(LINKS)
    for path in [*plain, *through, *at]:
        with pytest.raises(OutsideSandboxError) as caught:
            OPERATIONS[operation](sandbox, path)
        assert caught.value.path == path
        assert caught.value.why == "it leads out of the sandbox"
        assert untouched(tmp_path)
    assert sandbox.read_text("inside/f") == "inside"


def test_a_link_itself_can_be_renamed_replaced_and_deleted(
    tmp_path: Path, sandbox: SandboxMedium
) -> None:
    sandbox.rename("absolute", "moved")
    assert (tmp_path / "root/moved").is_symlink()
    sandbox.delete("moved")
    sandbox.delete_all("relative")
    sandbox.rename("inside/f", "dangling")
    assert not (tmp_path / "root/dangling").is_symlink()
    assert sandbox.read_text("dangling") == "inside"
    sandbox.ensure_dir("tree")
    (tmp_path / "root/tree/out").symlink_to(tmp_path / "out")
    sandbox.delete_all("tree")
    assert untouched(tmp_path)


def test_links_that_stay_inside_work(tmp_path: Path, sandbox: SandboxMedium) -> None:
    root = tmp_path / "root"
    (root / "dir").symlink_to("inside")
    (root / "inside/up").symlink_to("../inside/../dir/f")
    (root / "later").symlink_to("inside/not/yet")
    assert sandbox.read_text("dir/f") == sandbox.read_text("dir/up") == "inside"
    sandbox.write_text("dir/up", "changed")
    assert (root / "inside/f").read_text() == "changed"
    assert (root / "inside/up").is_symlink()
    assert not sandbox.exists("later")
    sandbox.write_text("later", "new")
    with sandbox.append("dir/up") as writer:
        writer.write(b"+")
    assert (root / "inside/not/yet").read_text() == "new"
    assert sandbox.read_text("inside/f") == "changed+"
    assert sandbox.stat("dir").is_dir


def test_circular_links_are_reported(tmp_path: Path, sandbox: SandboxMedium) -> None:
    (tmp_path / "root/a").symlink_to("b")
    (tmp_path / "root/b").symlink_to("a")
    for operation in ("read_bytes", "write_bytes", "append", "stat", "list", "ensure_dir"):
        for path in ("a", "a/x"):
            with pytest.raises(InvalidPathError, match="circle") as caught:
                OPERATIONS[operation](sandbox, path)
            assert not isinstance(caught.value, OutsideSandboxError)


@pytest.mark.parametrize(
    "name", ["..foo", "...", "a\nb", "n" * 255, "\\..\\x", os.fsdecode(b"\xff\xfe"), "ü" * 127]
)
def test_unusual_names_are_names(tmp_path: Path, sandbox: SandboxMedium, name: str) -> None:
    sandbox.write_text(f"d/{name}/{name}", "1")
    sandbox.rename(f"d/{name}/{name}", f"d/{name}/x")
    assert sandbox.list("d") == [name]
    assert sandbox.read_text(f"d/{name}/x") == "1"
    assert (tmp_path / "root/d" / name / "x").read_text() == "1"
    sandbox.delete_all(f"d/{name}")
    assert sandbox.list("d") == []


def test_an_error_names_the_real_path(tmp_path: Path, sandbox: SandboxMedium) -> None:
    with pytest.raises(PathNotFoundError) as caught:
        sandbox.read_text("./no//such")
    assert caught.value.filename == f"{tmp_path}/root/no/such"
    with pytest.raises(OutsideSandboxError) as outside:
        sandbox.read_text("relative/f")
    assert str(outside.value) == (
        f"cannot read '{tmp_path}/root/relative/f': it leads out of the sandbox"
    )
    assert outside.value.errno == errno.EXDEV


@ways
def test_the_root_may_be_named_by_a_link_and_renamed(tmp_path: Path, *, by_kernel: bool) -> None:
    make(tmp_path, by_kernel=by_kernel)
    (tmp_path / "alias").symlink_to("root")
    sandbox = SandboxMedium(tmp_path / "alias", by_kernel=by_kernel)
    (tmp_path / "root").rename(tmp_path / "renamed")
    (tmp_path / "root").symlink_to("out")
    sandbox.write_text("g", "1")
    assert (tmp_path / "renamed/g").read_text() == "1"
    assert not (tmp_path / "out/g").exists()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_a_copied_sandbox_is_a_sandbox_of_the_same_directory(
    tmp_path: Path, how: Callable[[SandboxMedium], SandboxMedium]
) -> None:
    sandbox = SandboxMedium(tmp_path / "root")
    sandbox.write_text("inside", "1")
    (tmp_path / "root").rename(tmp_path / "moved")
    other = how(sandbox)
    del sandbox
    gc.collect()
    with (tmp_path / "other").open("w"):  # takes the number of the descriptor that was closed
        assert other.list(".") == ["inside"]
        with pytest.raises(OutsideSandboxError):
            other.read_text("../other")


def test_a_pickled_sandbox_is_one_of_the_same_directory_or_an_error(tmp_path: Path) -> None:
    sandbox = SandboxMedium(tmp_path / "root", by_kernel=False)
    sandbox.write_text("inside", "1")
    pickled = pickle.dumps(sandbox)
    del sandbox
    gc.collect()
    held = [os.open(tmp_path, os.O_RDONLY) for _ in range(8)]
    other = pickle.loads(pickled)  # noqa: S301 - our own
    assert other.list(".") == ["inside"]
    for fd in held:
        os.close(fd)
    (tmp_path / "root").rename(tmp_path / "moved")
    with pytest.raises(PathNotFoundError, match="reopen the sandbox"):
        pickle.loads(pickled)  # noqa: S301 - our own
    (tmp_path / "root").mkdir()
    with pytest.raises(WrongStateError, match="another directory has this name"):
        pickle.loads(pickled)  # noqa: S301 - our own


def test_an_impossible_root_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for root in ("file", "file/x"):
        with pytest.raises(PathNotDirectoryError, match="make a sandbox"):
            SandboxMedium(tmp_path / root)
    with pytest.raises(InvalidPathError, match="NUL"):
        SandboxMedium("a\0")


def test_a_root_that_is_deleted_is_an_error(tmp_path: Path, sandbox: SandboxMedium) -> None:
    LocalMedium(tmp_path).delete_all("root")
    for operation in ("read_bytes", "write_bytes", "append", "ensure_dir", "create"):
        with pytest.raises(PathNotFoundError):
            OPERATIONS[operation](sandbox, "a/b")


@pytest.fixture
def _nobody_waits() -> Iterator[None]:
    def fail(_signal: int, _frame: object) -> None:
        pytest.fail("an operation waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_node(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
            server.bind(path.name)
    else:
        try:
            os.mknod(path, 0o666 | getattr(stat, f"S_IF{kind}"), os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes devices")


@pytest.mark.usefixtures("_nobody_waits")
@pytest.mark.parametrize("kind", ["pipe", "socket", "CHR", "BLK"])
def test_a_device_or_pipe_is_reported_without_blocking(
    tmp_path: Path, sandbox: SandboxMedium, kind: str
) -> None:
    make_node(tmp_path / "root/odd", kind)
    (tmp_path / "root/link").symlink_to("odd")
    operations = ["read_bytes", "open", "write_bytes", "create"]
    operations += ["append"] if kind != "CHR" else []  # as to /dev/null
    for path, operation in itertools.product(["odd", "link"], operations):
        with pytest.raises(InvalidPathError, match="a device, a pipe or a socket") as caught:
            OPERATIONS[operation](sandbox, path)
        assert caught.value.path == path
    assert sandbox.is_file("odd")
    with pytest.raises(CoreInfraError):
        sandbox.list("odd")
    sandbox.rename("odd", "moved")
    sandbox.delete("moved")
    assert not sandbox.exists("link")


@pytest.mark.usefixtures("_nobody_waits")
def test_what_has_the_name_of_an_unfinished_file_disturbs_no_write(
    tmp_path: Path, sandbox: SandboxMedium
) -> None:
    with sandbox.create("inside/f") as writer:
        (name,) = (path.name for path in (tmp_path / "root/inside").glob(".core*"))
        writer.write(b"new")
    stem = tmp_path / "root/inside" / name.removesuffix("0")
    make_node(stem.with_name(f"{stem.name}0"), "pipe")
    stem.with_name(f"{stem.name}1").mkdir()
    stem.with_name(f"{stem.name}2").symlink_to("../../out/f")
    make_node(stem.with_name(f"{stem.name}3"), "socket")
    sandbox.write_bytes("inside/f", b"newer")
    assert sandbox.read_bytes("inside/f") == b"newer"
    assert sandbox.list("inside") == ["f"]
    assert untouched(tmp_path)


def open_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_descriptor_is_left_open(tmp_path: Path, sandbox: SandboxMedium, operation: str) -> None:
    def once(path: str) -> None:
        with contextlib.suppress(CoreInfraError):
            result = OPERATIONS[operation](sandbox, path)
            if operation in {"open", "create", "append"}:
                result.close()  # type: ignore[attr-defined]

    os.mkfifo(tmp_path / "root/pipe")
    before = open_descriptors()
    for path in [
        "inside/f",
        "pipe",
        "inside",
        "no/such",
        "inside/f/x",
        "up/x",
        "relative",
        "n" * 255,
    ]:
        once(path)
    assert open_descriptors() == before


TRIES = int(os.environ.get("CORE_INFRA_RACE_TRIES", "300"))
_RENAME_EXCHANGE = 2
_HERE = -100


def exchange(one: Path, other: Path) -> None:
    """Swap two entries in one step: there is never a moment without either."""
    call = ctypes.CDLL(None).renameat2
    assert call(_HERE, bytes(one), _HERE, bytes(other), _RENAME_EXCHANGE) == 0


def swap_file(root: Path) -> None:
    """Put a link out, then a file, at the place of the file that is being written."""
    (root / "new").symlink_to("../out/f")
    (root / "new").replace(root / "f")
    (root / "new").write_text("mine")
    (root / "new").replace(root / "f")


def swap_directory(root: Path) -> None:
    exchange(root / "dir", root / "relative")


@ways
@pytest.mark.parametrize(("swap", "path"), [(swap_directory, "dir/f"), (swap_file, "f")])
def test_swapping_for_a_link_meanwhile_leads_nowhere(
    tmp_path: Path, swap: Callable[[Path], None], path: str, *, by_kernel: bool
) -> None:
    sandbox = make(tmp_path, by_kernel=by_kernel)
    sandbox.write_text("dir/f", "mine")
    done = threading.Event()

    def keep_swapping() -> None:
        while not done.is_set():
            swap(tmp_path / "root")

    def append() -> None:
        with sandbox.append(path) as writer:
            writer.write(b"x")

    def read() -> None:
        assert sandbox.read_bytes(path) != b"secret"

    thread = threading.Thread(target=keep_swapping)
    thread.start()
    operations = [lambda: sandbox.write_bytes(path, b"x"), append, read]
    outcomes: set[str] = set()
    both = {"done", "OutsideSandboxError"}
    try:
        for number in range(100 * TRIES):  # until both were met: the threads may keep in step
            if number >= TRIES and outcomes >= both:
                break
            try:
                operations[number % len(operations)]()
                outcomes.add("done")
            except CoreInfraError as error:
                outcomes.add(type(error).__name__)
    finally:
        done.set()
        thread.join()
    assert untouched(tmp_path)
    assert outcomes >= both
