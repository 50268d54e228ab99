"""Images with names: kept whole until they are removed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from core_infra._cli.main import main
from core_infra.errors import AlreadyExistsError, InvalidError, NotFoundError
from core_infra.vm import Image, load_image
from core_infra.vm._images.addresses import rebased
from core_infra.vm._images.kernel_set import built_image
from core_infra.vm._images.manifest import DISK, INITRD, KERNEL, write_manifest
from core_infra.vm._images.named import NamedImages
from core_infra.vm._state_directory import VARIABLE


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    directory = tmp_path / "cache"
    directory.mkdir()
    for name in (KERNEL, INITRD):
        (directory / name).write_bytes(name.encode())
    with (directory / DISK).open("wb") as disk:
        disk.write(b"start")
        disk.truncate(1 << 30)
    facts = {
        "cmdline": "quiet",
        "arch": "x86_64",
        "name": "debian:bookworm",
        "has_agent": True,
        "console": "ttyS0",
        "memory": 512,
        "run": {"env": {"A": "1"}, "workdir": "/", "user": "", "entrypoint": [], "cmd": []},
    }
    write_manifest(directory, image=facts, packages=[])
    return built_image(directory)


def test_an_image_is_found_by_its_name_with_all_that_it_carries(state: Path, image: Image) -> None:
    NamedImages().add("web", image, memory=1024, cpus=2)
    found = load_image("web")
    assert isinstance(found, Image)
    assert (found.name, found.memory, found.cpus, found.run) == ("web", 1024, 2, image.run)
    assert found.kernel.read_bytes() == b"kernel"
    assert found.disk is not None
    assert found.disk.parent == state / "images" / "web"
    assert found.disk.stat().st_blocks < 1000, "holes stay holes"
    assert rebased("web", Path("/suite")) == "web"
    assert rebased("other", Path("/suite")) == Path("/suite/other")


@pytest.mark.usefixtures("state")
def test_a_path_in_the_working_directory_comes_first(image: Image, tmp_path: Path) -> None:
    NamedImages().add("web", image)
    (tmp_path / "web").write_bytes(bytes(512))
    assert not isinstance(load_image("web"), Image)
    assert rebased("web", tmp_path) == tmp_path / "web"


@pytest.mark.usefixtures("state")
def test_an_image_is_replaced_only_on_request(image: Image) -> None:
    images = NamedImages()
    images.add("web", image)
    with pytest.raises(AlreadyExistsError, match="there is an image web already"):
        images.add("web", image, memory=2048)
    assert [(one.name, one.image.memory) for one in images.all()] == [("web", 512)]
    images.add("web", image, memory=2048, replace=True)
    assert [(one.name, one.image.memory) for one in images.all()] == [("web", 2048)]


@pytest.mark.parametrize("name", ["default", "host", "debian", "a/b", "..", ".hidden", "", "A"])
def test_a_name_that_means_something_else_is_refused(state: Path, image: Image, name: str) -> None:
    with pytest.raises(InvalidError, match="an image cannot be named"):
        NamedImages().add(name, image)
    assert not (state / "images").exists()


def test_an_exported_image_needs_neither_name_nor_cache(
    state: Path, image: Image, tmp_path: Path
) -> None:
    images = NamedImages()
    images.add("web", image)
    images.export("web", tmp_path / "copy")
    images.remove("web")
    found = load_image(tmp_path / "copy")
    assert isinstance(found, Image)
    assert found.has_agent
    assert found.disk is not None
    assert found.disk.stat().st_size == 1 << 30
    assert found.disk.stat().st_blocks < 1000
    with pytest.raises(NotFoundError, match="there is no image 'web'"):
        images.remove("web")
    assert sorted(path.name for path in (state / "images").iterdir()) == [".lock"]


def test_what_a_killed_process_left_is_not_an_image(state: Path, image: Image) -> None:
    images = NamedImages()
    images.add("web", image)
    left = state / "images" / ".making-x" / "web"
    left.mkdir(parents=True)
    (left / KERNEL).touch()
    assert [one.name for one in images.all()] == ["web"]
    images.add("other", image)
    assert not left.exists()


@pytest.mark.usefixtures("state")
def test_the_commands_list_export_and_remove(image: Image, tmp_path: Path) -> None:
    NamedImages().add("web", image)
    run = CliRunner().invoke
    listed = json.loads(run(main, ["image", "ls", "--json"]).output)
    assert [(one["image"], one["memory"]) for one in listed] == [("web", 512)]
    assert "web" in run(main, ["image", "ls"]).output
    assert run(main, ["image", "export", "web", str(tmp_path / "copy")]).exit_code == 0
    assert run(main, ["image", "rm", "web"]).exit_code == 0
    missing = run(main, ["image", "rm", "web"])
    assert (missing.exit_code, "there is no image 'web'" in missing.output) == (3, True)
    both = run(main, ["image", "build", "--from", "debian"])
    assert (both.exit_code, "need -o NAME" in both.output) == (2, True)
