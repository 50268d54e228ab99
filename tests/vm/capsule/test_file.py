"""Reading a capsule: what is damaged or something else is one clear error."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._capsule.file import Capsule, CapsuleWriter
from core_infra.vm._capsule.page import page

if TYPE_CHECKING:
    from pathlib import Path

STATE = b"memory" * 2000
MANIFEST = {"test": "test_a.py::test_one", "machines": [{"name": "vm1", "state": "state/vm1"}]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("capsule") / "x.capsule"
    with CapsuleWriter(path) as writer:
        writer.add("state/vm1", lambda put: put(STATE))
        writer.set_manifest(MANIFEST)
    assert [one.name for one in path.parent.iterdir()] == ["x.capsule"]
    return path.read_bytes()


def read(path: Path) -> bytes:
    capsule = Capsule(path)
    target = path.with_suffix(".out")
    target.unlink(missing_ok=True)
    capsule.extract("state/vm1", target, limit=len(STATE))
    assert capsule.manifest["machines"] == MANIFEST["machines"]
    return target.read_bytes()


def test_it_has_what_was_written(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.capsule"
    path.write_bytes(whole)
    assert read(path) == STATE


def test_a_large_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)  # beyond it, the format has another end
    path = tmp_path / "x.capsule"
    with CapsuleWriter(path) as writer:
        writer.add("state/vm1", lambda put: put(os.urandom(len(STATE))))
        writer.set_manifest(MANIFEST)
    assert b"PK\6\7" in path.read_bytes()
    assert len(read(path)) == len(STATE)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_capsule_is_an_error_or_harmless(
    whole: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "x.capsule"
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))
    path.write_bytes(damaged[:cut])
    with contextlib.suppress(InvalidError):
        assert read(path) == STATE


def test_something_else_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no capsule"):
        Capsule(tmp_path / "none")
    with pytest.raises(InvalidError, match="is not a capsule: it is a directory"):
        Capsule(tmp_path)
    text = tmp_path / "text"
    text.write_text("hello")
    with pytest.raises(InvalidError, match="damaged"):
        Capsule(text)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(InvalidError, match=r"is not a capsule: it has no capsule\.json"):
        Capsule(other)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("capsule.json", '{"kind": "core-infra capsule", "format": 99}')
    with pytest.raises(InvalidError, match="format 99, and this version reads 1 to 2"):
        Capsule(other)


def hostile(path: Path, method: int, names: list[str], **manifest: object) -> None:
    digests = dict.fromkeys(names, hashlib.sha256(bytes(1 << 20)).hexdigest())
    text = {"kind": "core-infra capsule", "format": 2, "machines": [], "digests": digests}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, bytes(1 << 20))
        archive.writestr("capsule.json", json.dumps(text | manifest))


def test_a_small_file_that_stands_for_a_large_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.capsule"
    hostile(path, zipfile.ZIP_DEFLATED, ["state"])
    assert path.stat().st_size < 10_000
    with pytest.raises(InvalidError, match="its members are not as they were written"):
        Capsule(path)
    hostile(path, zipfile.ZIP_STORED, [])
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:080}", b"")
    with pytest.raises(InvalidError, match="its list of members is too large"):
        Capsule(path)


@pytest.mark.parametrize(
    "manifest",
    [
        {"machines": [{"name": "a\x1b]0;evil\x07"}]},
        {"machines": [{"name": "a", "disks": [{"path": "/a\nb"}]}]},
        {"groups": [{"machines": ["\x9b2J"]}]},
        {"digests": {"../../x\r": ""}},
    ],
    ids=str,
)
def test_what_a_terminal_would_obey_is_refused(tmp_path: Path, manifest: dict[str, object]) -> None:
    path = tmp_path / "x.capsule"
    hostile(path, zipfile.ZIP_STORED, [], **manifest)
    with pytest.raises(InvalidError, match="is not a name") as caught:
        Capsule(path)
    assert str(caught.value).replace("\n", " ").isprintable()


def test_other_files_than_regular_ones_are_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(InvalidError, match="is not a capsule: it is not a regular file"):
        Capsule(fifo)


def test_a_state_that_unpacks_to_too_much_is_refused(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.capsule"
    path.write_bytes(whole)
    with pytest.raises(InvalidError, match="larger than it can be"):
        Capsule(path).extract("state/vm1", tmp_path / "out", limit=len(STATE) - 1)


def test_what_failed_to_be_written_leaves_nothing(tmp_path: Path) -> None:
    def fail(_put: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), CapsuleWriter(tmp_path / "x.capsule") as writer:
        writer.add("state/vm1", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.capsule"
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from core_infra.vm._capsule.file import CapsuleWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "with CapsuleWriter(Path(sys.argv[1])) as writer:\n"
        "    writer.add('state', lambda put: put(__import__('os').urandom(1 << 20)))\n"
    )
    argv = [sys.executable, "-c", program, str(path)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "File too large" in ended.stderr.splitlines()[-1]
    assert "Exception ignored" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_has_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    program = (
        "import sys; from pathlib import Path; from core_infra.vm._capsule.file import *\n"
        "with CapsuleWriter(Path(sys.argv[1])) as writer:\n"
        "    print(flush=True); sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / "x.capsule")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with CapsuleWriter(tmp_path / "y.capsule"):
            assert len(list(tmp_path.glob(".*.part"))) == 2
        other.kill()
    assert sorted(one.name[0] for one in tmp_path.iterdir()) == [".", "y"]
    with CapsuleWriter(tmp_path / "y.capsule"):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["y.capsule"]


def test_what_a_guest_has_printed_cannot_leave_the_data_of_the_page() -> None:
    evil = "</script><script>alert(1)</script><!--"
    machine = {"name": evil, "console": evil, "log": "not shown", "nonce": "secret"}
    text = page({"test": evil, "machines": [machine], "digests": {}})
    assert text.count("<script>") == 1
    assert evil not in text
    assert "not shown" not in text
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in text


def test_a_member_that_is_the_difference_to_another(tmp_path: Path) -> None:
    base = os.urandom(3 << 20)
    states = {"m/1": base, "m/2": base[: 1 << 20] + b"other" + base[1 << 20 :], "m/3": b""}
    path = tmp_path / "x.capsule"
    with CapsuleWriter(path) as writer:
        writer.add("m/1", lambda put: put(base), is_base=True)
        writer.add("m/2", lambda put: put(states["m/2"]), over="m/1")
        writer.add("m/3", lambda put: put(b""), over="m/1")
        writer.forget_bases()
        writer.set_manifest(MANIFEST)
    assert path.stat().st_size < 1.01 * len(base)
    capsule = Capsule(path)
    for number, (name, state) in enumerate(states.items()):
        capsule.extract(name, tmp_path / str(number), limit=4 << 20)
        assert (tmp_path / str(number)).read_bytes() == state
    with pytest.raises(InvalidError, match="larger than it can be"):
        capsule.extract("m/2", tmp_path / "small", limit=1 << 20)


@pytest.mark.parametrize("over", [{"m/2": "m/0"}, {"m/2": "m/2"}, {"m/3": "m/1"}, [], {"m/2": []}])
def test_a_difference_to_nothing_is_damage(tmp_path: Path, over: object) -> None:
    path = tmp_path / "x.capsule"
    with CapsuleWriter(path) as writer:
        writer.add("m/1", lambda put: put(STATE), is_base=True)
        writer.add("m/2", lambda put: put(STATE), over="m/1")
        writer.set_manifest({**MANIFEST, "over": over})
    with pytest.raises(InvalidError, match="is damaged"):
        Capsule(path)
