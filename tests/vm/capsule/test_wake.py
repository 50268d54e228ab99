"""Machines of a capsule, woken without the run that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._capsule.disks import add_disks, extract_disks
from core_infra.vm._capsule.file import Capsule, CapsuleWriter
from core_infra.vm._capsule.machines import add_machines, machine_facts
from core_infra.vm._capsule.wake import woken
from core_infra.vm._disks import as_disks
from core_infra.vm._images.qemu_img import qemu_img
from core_infra.vm._machine import record_of
from core_infra.vm._machine_spec import MachineSpec
from core_infra.vm._saved_cluster import SavedMachine

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm import Launcher


@pytest.fixture(scope="module")
def capsule(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine = launcher.clone(name="one")
    machine.exec("echo kept > /srv/note", check=True)
    path = tmp_path_factory.mktemp("capsule") / "one.capsule"
    with CapsuleWriter(path) as writer:
        saved = add_machines(writer, launcher, [machine], whole=False)
        facts = machine_facts(
            machine.spec, record_of(machine).accelerator, launcher.hypervisor.version()
        )
        one = {"name": machine.name, "facts": facts, **saved.machines[machine]}
        writer.set_manifest({"machines": [one], "groups": saved.groups})
    assert machine.exec("cat /srv/note").stdout == "kept\n"  # it continues
    launcher.discard(machine)
    return path


def test_each_time_it_wakes_as_it_was(capsule: Path) -> None:
    for _ in range(2):
        with woken(Capsule(capsule)) as machine:
            assert machine.exec("cat /srv/note; rm /srv/note").stdout == "kept\n"


WRONG: list[tuple[str, Any, str]] = [
    ("memory", None, "is damaged"),
    ("memory", 3, "is damaged"),
    ("cpus", [1], "is damaged"),
    ("cpu", "a b", "is damaged"),
    ("arch", "pdp11", "is damaged"),
    ("run", 7, "is damaged"),
    ("hypervisor", "1.0", "was saved by QEMU 1.0"),
    ("accelerator", "magic", "cannot be loaded: .*invalid accelerator magic"),
    ("nonce", "00", "does not remember what it was saved with"),
    ("state", "../../etc/passwd", "cannot be woken"),
    ("disks", [{"format": "qcow2"}], "is damaged"),
    ("cards", [["none", "10.9.0.2"]], "is damaged"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_a_manifest_without_sense_is_one_error(
    capsule: Path, key: str, value: object, message: str
) -> None:
    found = Capsule(capsule)
    (one,) = found.manifest["machines"]
    (one["facts"] if key in one["facts"] else one)[key] = value
    with pytest.raises(CoreInfraError, match=message), woken(found, "one"):
        pytest.fail("it was woken")


class Layers:
    """What a machine has written to a disk of an image."""

    nonce, past = "", b""

    def __init__(self, image: Path) -> None:
        self.image = image

    def save_disks(self, directory: Path) -> None:
        layer = directory / "disk0.qcow2"
        arguments = ("-f", "qcow2", "-F", "raw", "-b", str(self.image), str(layer))
        qemu_img(layer, "create", "-q", *arguments)


@pytest.mark.parametrize("whole", [True, False])
def test_images_below_disks(tmp_path: Path, launcher: Launcher, whole: bool) -> None:  # noqa: FBT001 - a parameter of the test
    image = tmp_path / "disk.img"
    image.write_bytes(b"below".ljust(5 << 20, b"\0"))
    spec = MachineSpec("one", launcher.image, 256, 1, disks=tuple(as_disks([image])))
    (tmp_path / "work").mkdir()
    with CapsuleWriter(tmp_path / "one.capsule") as writer:
        machine = SavedMachine("one", spec, Layers(image), ())  # type: ignore[arg-type] # a part of one
        records = add_disks(writer, "one", machine, tmp_path / "work", whole=whole)
        writer.set_manifest({"machines": []})
    found = Capsule(tmp_path / "one.capsule")

    def content(name: str) -> bytes:
        target = tmp_path / name
        target.mkdir()
        extract_disks(found, "one", records, target)
        raw = target / "raw"
        qemu_img(raw, "convert", "-f", "qcow2", "-O", "raw", str(target / "disk0.qcow2"), str(raw))
        return raw.read_bytes()

    assert content("there") == image.read_bytes()
    expected, other = image.read_bytes(), image.with_name("other.img")
    image.rename(other)
    if whole:
        assert content("gone") == expected
        return
    with pytest.raises(NotFoundError, match="is not on this host: only what the machine has wr"):
        content("gone")
    image.write_bytes(expected)
    with pytest.raises(NotFoundError, match="is not on this host: it has changed"):
        content("changed")


@pytest.mark.parametrize("part", ["base", "layer"])
def test_a_disk_that_leads_to_a_file_of_this_host_is_refused(tmp_path: Path, part: str) -> None:
    secret, evil, fine = tmp_path / "secret", tmp_path / "evil.qcow2", tmp_path / "fine.qcow2"
    secret.write_bytes(bytes(1 << 20))
    qemu_img(fine, "create", "-q", "-f", "qcow2", str(fine), "1M")
    base = ("-F", "raw", "-b", str(secret), str(evil))
    leads = base if part == "base" else ("-o", f"data_file={secret}", str(evil), "1M")
    qemu_img(evil, "create", "-q", "-f", "qcow2", *leads)
    with CapsuleWriter(tmp_path / "one.capsule") as writer:
        writer.add_file("base", evil if part == "base" else fine)
        writer.add_file("layer", evil if part == "layer" else fine)
        writer.set_manifest({"machines": []})
    record = {"format": "qcow2", "read_only": False, "boot": False, "disc": False}
    record |= {"base": "base", "layer": "layer"}
    (tmp_path / "out").mkdir()
    why = "it refers to '.*secret'" if part == "base" else "its data are in another file"
    with pytest.raises(InvalidError, match=why):
        extract_disks(Capsule(tmp_path / "one.capsule"), "one", [record], tmp_path / "out")


MOMENT = {
    "number": 1,
    "machine": "one",
    "what": "a\nb",
    "why_not": "",
    "machines": [],
    "networks": [],
}


@pytest.mark.parametrize(
    ("moments", "error", "message"),
    [
        ([], NotFoundError, "it has only the end of the test"),
        ([{**MOMENT, "number": 2}], NotFoundError, "it can to before 2"),
        ([{**MOMENT, "why_not": "it was\033[2J off"}], NotFoundError, r"it was\\x1b\[2J off"),
        ([{**MOMENT, "number": "x"}], InvalidError, "is damaged"),
        ([{**MOMENT, "machines": [{"name": "other"}]}], InvalidError, "is damaged"),
        ([{**MOMENT, "machines": 3}], InvalidError, "is damaged"),
        ([{"number": 1}], InvalidError, "is damaged"),
        ([3], InvalidError, "is damaged"),
        (3, InvalidError, "is damaged"),
    ],
)
def test_moments_without_sense_are_one_error(
    capsule: Path, moments: object, error: type[CoreInfraError], message: str
) -> None:
    found = Capsule(capsule)
    found.manifest["moments"] = moments
    with pytest.raises(error, match=message), woken(found, before=1):
        pytest.fail("it was woken")
