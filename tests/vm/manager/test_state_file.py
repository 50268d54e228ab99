"""What is remembered of machines: by one process, by many, by those that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core_infra.errors import AlreadyExistsError, InvalidError, NotFoundError, UnavailableError
from core_infra.vm._manager.record import Container, ContainerStatus, checked_name
from core_infra.vm._manager.state_file import FILE, State

HAMMER = Path(__file__).parent / "programs" / "state_hammer.py"


def one(number: int = 1, **fields: object) -> Container:
    given = {"id": f"{number:08x}", "name": f"name{number}", "image": "an-image", **fields}
    return Container.model_validate(given)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def test_nothing_is_remembered_at_first_and_nothing_written(state: State) -> None:
    assert state.all() == []
    assert not state.directory.exists()


def test_what_was_added_is_there_for_the_next_process(state: State) -> None:
    added = one(pid=12, ports={8080: 80}, volumes={"/src": "/work"}, memory=2048, cpus=2)
    state.add(added)
    again = State(state.directory)
    assert again.get(added.id) == added
    assert again.all() == [added]
    assert state.path.stat().st_mode & 0o777 == 0o600


def test_the_place_is_the_users_or_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CORE_INFRA_STATE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert State().path == tmp_path / ".core" / "containers.json"
    monkeypatch.setenv("CORE_INFRA_STATE_DIR", str(tmp_path / "other"))
    assert State().path == tmp_path / "other" / "containers.json"


def test_changes_and_removal(state: State) -> None:
    state.add(one())
    before = state.get(one().id)
    assert state.update(one().id, status="stopped", pid=None).status is ContainerStatus.STOPPED
    assert before.status is ContainerStatus.RUNNING, "what was got does not change"
    assert state.remove(one().id).status is ContainerStatus.STOPPED
    for call in (state.get, state.remove, state.update):
        with pytest.raises(NotFoundError, match="no machine 00000001"):
            call(one().id)


def test_an_impossible_change_changes_nothing(state: State) -> None:
    state.add(one())
    with pytest.raises(InvalidError, match="no field colour"):
        state.update(one().id, colour="red")
    with pytest.raises(InvalidError, match="memory"):
        state.update(one().id, memory="much")
    assert state.get(one().id) == one(started_at=state.get(one().id).started_at)


def test_names_and_ids_are_taken_once(state: State) -> None:
    state.add(one(name="web"))
    with pytest.raises(AlreadyExistsError, match="machine web already"):
        state.add(one(2, name="web"))
    with pytest.raises(AlreadyExistsError):
        state.add(one(name="other"))
    assert len(state.all()) == 1


def test_a_name_is_not_the_beginning_of_another_machines_id(state: State) -> None:
    first = one(name="web")
    state.add(first)
    with pytest.raises(AlreadyExistsError, match=f"beginning of the id of web, {first.id}"):
        state.add(one(0xABC, name=first.id[:4]))
    assert [other.name for other in state.all()] == ["web"]


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "..", "é", "x" * 64, "0123abcd", "a\n"])
def test_names_that_a_machine_cannot_have(name: str) -> None:
    with pytest.raises(InvalidError, match="cannot be named"):
        checked_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 1}',
        '{"version": 1, "containers": []}',
        '{"version": null, "containers": {}}',
        "\0\0\0",
        "[" * 100_000,
        '{"version": 1, "containers": {"x": {}}}',
    ],
)
def test_a_damaged_file_is_set_aside_and_told_once(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    told: list[str] = []
    state = State(tmp_path, progress=told.append)
    assert state.all() == []
    state.add(one())
    assert state.get(one().id).name == "name1"
    (line,) = told
    assert f"kept as {FILE}.damaged-1" in line
    assert (tmp_path / f"{FILE}.damaged-1").read_text() == text


def test_what_can_be_read_of_a_damaged_file_is_kept(state: State) -> None:
    state.add(one())
    state.add(one(2))
    content = json.loads(state.path.read_text())
    content["containers"]["00000001"]["memory"] = "much"
    state.path.write_text(json.dumps(content))
    with pytest.warns(RuntimeWarning, match=r"00000001: memory: .* 1 machine of it"):
        assert [found.id for found in state.all()] == ["00000002"]
    (state.path).write_text("torn")
    with pytest.warns(RuntimeWarning, match="damaged-2"):
        state.load()


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    text = '{"version": 2, "containers": {}}'
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InvalidError, match="it has format 2"):
        State(tmp_path).add(one())
    assert (tmp_path / FILE).read_text() == text


def test_fields_of_a_later_version_are_not_lost(state: State) -> None:
    state.add(one(colour="red"))
    state.update(one().id, memory=1)
    assert json.loads(state.path.read_text())["containers"]["00000001"]["colour"] == "red"


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="CORE_INFRA_STATE_DIR"):
        State(tmp_path / "file" / "state").add(one())


def test_threads_lose_nothing(state: State) -> None:
    threads = [threading.Thread(target=state.add, args=(one(n),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.all()) == 20


def test_processes_killed_at_random_lose_and_tear_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, HAMMER, tmp_path, "60"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] >= 60
    assert told["operations"] > 60, "they did nothing"
