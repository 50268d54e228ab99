"""Machines of OCI images, of which this one has no shell, no init, and hardly a file."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from build_samples import need
from core_infra._binaries import agent_binary
from core_infra._host import SHORT_NAMES
from core_infra.build._artifact import Target
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm import Image, Launcher, Machine, load_image
from core_infra.vm._access.interface import run_to_end
from core_infra.vm._boot import boot_limit
from core_infra.vm._images.image import host_arch
from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.record import Volume
from core_infra.vm._manager.run_options import RunOptions
from core_infra.vm._manager.state_file import State
from core_infra.vm._manager.volumes import can_serve
from oci_images import Entry, folder, hard_link, layer, link, write_layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core_infra.vm import MachineOptions

CAPABILITY = {"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00" + "\x00" * 12}


SHOW = 'echo "$(id -u) $GREETING $1 $(pwd)"'


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("layout")
    program = agent_binary(host_arch())
    layers = [
        [
            folder("usr"),
            folder("usr/bin"),
            link("bin", "usr/bin"),
            Entry("bin/program", data=program, mode=0o755, xattrs=CAPABILITY),
            Entry("gone"),
            folder("srv/data", owner=(1234, 56), mode=0o2770),
        ],
        [Entry(".wh.gone"), hard_link("srv/same", "bin/program"), Entry("suid", mode=0o4755)],
    ]
    config = {
        "Env": ["GREETING=hello world", "PATH=/bin:/odd"],
        "WorkingDir": "/srv",
        "User": "1234:56",
        "Entrypoint": ["sh", "-c", f"{SHOW} >data/started; sleep 1000", "x"],
        "Cmd": ["it's"],
    }
    write_layout(directory, [layer(entries) for entries in layers], config=config)
    return directory


@pytest.fixture(scope="module")
def launcher(layout: Path) -> Iterator[Launcher]:
    said: list[str] = []
    with Launcher(image=f"oci-layout:{layout}", progress=said.append) as launcher:
        yield launcher
    assert not [line for line in said if "not cloned" in line]


@pytest.fixture(scope="module")
def machine(launcher: Launcher) -> Machine:
    return launcher.clone()


def test_commands_run_as_the_image_says(machine: Machine) -> None:
    done = machine.exec('echo "$GREETING"; pwd; id -u; id -g; echo "$PATH$LANG"', check=True)
    assert done.stdout.splitlines() == ["hello world", "/srv", "1234", "56", "/bin:/odd"]
    done = machine.exec("id -u; pwd; echo $GREETING", user="0", cwd="/", env={"GREETING": "own"})
    assert done.stdout.splitlines() == ["0", "/", "own"]


@pytest.mark.usefixtures("machine")
def test_a_layout_is_only_read(layout: Path) -> None:
    names = {path.relative_to(layout).parts[0] for path in layout.rglob("*")}
    assert names == {"blobs", "index.json", "oci-layout"}


def test_its_own_program_runs_without_a_shell(machine: Machine) -> None:
    done = machine.exec(["program"])
    assert done.exit_code != 0
    assert "usage: agent" in done.stderr


def test_the_tree_is_the_image_s(machine: Machine) -> None:
    shown = machine.exec(["/run/core-infra/bin/stat", "-c", "%n %a %u %g", "/srv/data", "/suid"])
    assert shown.stdout.splitlines() == ["/srv/data 2770 1234 56", "/suid 4755 0 0"]
    assert machine.exec("[ /srv/same -ef /bin/program ] && [ ! -e /gone ]").exit_code == 0


def test_files_go_in_and_out_whoever_the_image_s_user_is(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    machine.push(tmp_path / "d", "/srv/pushed")
    machine.wait_for_file("/srv/pushed/f")
    machine.pull("/srv/pushed", tmp_path / "back")
    assert (tmp_path / "back" / "f").read_text() == "x"


def test_its_own_program_is_started_if_asked_for(launcher: Launcher, machine: Machine) -> None:
    own = launcher.clone(entrypoint=True)
    own.wait_until_succeeds("grep . data/started")
    assert own.read_text("/srv/data/started") == "1234 hello world it's /srv\n"
    assert machine.exec("[ -e data/started ]").exit_code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "nothing"}, "'nothing' as the first process"),
        ({"init": "/a b"}, "'/a b' as the first process"),
    ],
)
def test_a_wrong_program_is_refused(
    launcher: Launcher, options: MachineOptions, message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        launcher.clone(**options)


def test_the_boot_of_a_whole_system_may_take_longer(launcher: Launcher) -> None:
    own, system = launcher.spec("a"), launcher.spec("b", init="systemd")
    assert boot_limit(system.image) > boot_limit(own.image)


def test_only_oci_images_have_programs_to_choose() -> None:
    with Launcher() as launcher, pytest.raises(InvalidError, match="are for OCI images"):
        launcher.clone(entrypoint=True)


def test_an_image_without_a_program_has_none_to_start(tmp_path: Path) -> None:
    write_layout(tmp_path, [layer([Entry("f")])])
    message = "has neither ENTRYPOINT nor CMD"
    launcher = Launcher(image=f"oci-layout:{tmp_path}")
    with launcher, pytest.raises(InvalidError, match=message):
        launcher.clone(entrypoint=True)


def test_commands_in_a_machine_that_stays_run_as_the_image_says(
    layout: Path, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "f").write_text("from the host")
    machines = LinuxKitManager(state=State(tmp_path / "state"))
    volume = Volume(path=str(tmp_path / "shared"), place="/mnt/shared")
    served = can_serve()
    options = RunOptions(detach=True, volumes=(volume,) if served else ())
    container = machines.run(f"oci-layout:{layout}", options)
    try:
        shown = machines.exec(container.id, "id -u; pwd; echo $GREETING")
        assert shown.stdout.splitlines() == ["1234", "/srv", "hello world"]
        if served:
            assert machines.exec(container.id, "cat /mnt/shared/f").stdout == "from the host"
        with contextlib.closing(machines.enter(container.id)) as own:
            assert run_to_end(own, ["/run/core-infra/bin/id", "-u"]).stdout == "0\n"
    finally:
        machines.remove(container.id, force=True)


@pytest.mark.long
def test_the_disk_survives_a_reboot_and_only_that(launcher: Launcher) -> None:
    with launcher.clone() as machine:
        machine.exec("echo kept >/kept && sync && touch /run/gone", user="0", check=True)
        machine.exec(["/run/core-infra/bin/reboot"], user="0")
        machine.wait_until_succeeds("[ -e /kept ] && [ ! -e /run/gone ]", timeout=120)
    assert launcher.clone().exec("[ -e /kept ]").exit_code == 1


@pytest.mark.long
def test_an_image_of_another_architecture_is_emulated(tmp_path: Path) -> None:
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[host_arch()]
    if shutil.which(f"qemu-system-{other}") is None:
        pytest.skip(f"qemu-system-{other} is not installed")
    program = Entry("program", data=agent_binary(other), mode=0o755)
    write_layout(tmp_path, [layer([program])], architecture=SHORT_NAMES[other])
    with Launcher(image=f"oci-layout:{tmp_path}", arch=other) as launcher:
        for machine in (launcher.clone(), launcher.clone()):
            assert machine.exec("uname -m").stdout == f"{other}\n"
            assert "usage: agent" in machine.exec(["/program"]).stderr
    with (
        Launcher(image=f"oci-layout:{tmp_path}") as launcher,
        pytest.raises(NotFoundError, match=f"no version for linux/{SHORT_NAMES[host_arch()]}"),
    ):
        launcher.clone()


PROGRAM = """\
#!/bin/sh
read -r text </etc/app.conf
echo "$text" >/tmp/started
"""


def test_the_image_of_a_release_runs(launcher: Launcher, tmp_path: Path) -> None:
    need("task")
    app = tmp_path / "app"
    (app / ".core").mkdir(parents=True)
    oci = {"image": "ghcr.io/acme/app", "files": {"app.conf": "/etc/app.conf"}}
    (app / ".core" / "build.yaml").write_text(json.dumps({"oci": oci}))
    (app / "app.conf").write_text("of the release\n")
    (app / "program").write_text(PROGRAM)
    command = 'install -m 755 program "{{.OUTPUT_DIR}}/tool"'
    tasks = {"version": "3", "tasks": {"build": {"cmds": [command]}}}
    (app / "Taskfile.yml").write_text(json.dumps(tasks))
    plan = make_plan(app, goal="release", targets=[Target("linux", SHORT_NAMES[host_arch()])])
    released = carry_out(plan).directory / "app_oci.tar"
    with launcher.clone(load_image(f"oci-archive:{released}"), entrypoint=True) as machine:
        machine.wait_for_file("/tmp/started")
        assert machine.read_text("/tmp/started") == "of the release\n"
        stat = ["/run/core-infra/bin/stat", "-c", "%u %g", "/tmp/started"]
        assert machine.exec(stat, check=True).stdout == "65532 65532\n"
        assert machine.exec("id -u; command -v tool", check=True).stdout == "65532\n/usr/bin/tool\n"


def test_it_has_the_name_of_its_address_and_is_listed(launcher: Launcher, layout: Path) -> None:
    assert launcher.image.name == f"oci-layout:{layout}"
    command = [sys.executable, "-m", "core_infra", "vm", "images", "--json"]
    done = subprocess.run(command, check=True, capture_output=True)
    formats = [row["format"] for row in json.loads(done.stdout)]
    assert {"oci", "kernel+initrd"} <= set(formats)


def test_an_archive_of_docker_save_is_the_same_image(tmp_path: Path) -> None:
    saved = tmp_path / "saved.tar"
    plain = [layer([Entry("f", data=b"1")]), layer([Entry("g", data=b"2")])]
    write_layout(tmp_path / "own", plain, config={"Env": ["A=1"]})
    index = json.loads((tmp_path / "own" / "index.json").read_text())
    blobs = tmp_path / "own" / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = (blobs / manifest["config"]["digest"][7:]).read_bytes()
    files = {"c.json": config, "0/layer.tar": plain[0], "1/layer.tar": plain[1]}
    listed = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["0/layer.tar", "2/layer.tar"]}]
    files["manifest.json"] = json.dumps(listed).encode()
    with tarfile.open(saved, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        again = tarfile.TarInfo("2/layer.tar")  # as docker does if an image has a layer twice
        again.type, again.linkname = tarfile.SYMTYPE, "../1/layer.tar"
        archive.addfile(again)
    one = load_image(f"oci-archive:{saved}")
    subprocess.run(["tar", "-C", tmp_path / "own", "-cf", tmp_path / "oci.tar", "."], check=True)
    other = load_image(f"oci-archive:{tmp_path / 'oci.tar'}")
    disks = []
    for image in (one, other):
        assert isinstance(image, Image)
        assert image.disk is not None
        with image.disk.open("rb") as file:
            disks.append(file.read(96 << 20))  # what follows was never written
    assert disks[0] == disks[1]


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("oci-layout:{dir}/none", NotFoundError, "no OCI image layout in .*/none"),
        ("oci-layout:{layout}:v9", NotFoundError, "holds no image v9: it holds latest"),
        ("oci-archive:{dir}/none.tar", NotFoundError, "no archive .*none.tar"),
        ("oci-archive:{layout}/oci-layout", InvalidError, "is not a tar archive"),
        ("oci:Upper", InvalidError, "does not name an image"),
    ],
)
def test_a_wrong_address_is_one_clear_error(
    layout: Path, tmp_path: Path, address: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        load_image(address.format(dir=tmp_path, layout=layout))


def test_a_layer_may_end_without_padding(tmp_path: Path) -> None:
    whole = layer([Entry("f", data=b"1" * 700)])
    write_layout(tmp_path, [whole[: 512 + 700]])
    assert load_image(f"oci-layout:{tmp_path}").memory == 512


def test_a_damaged_layer_is_found(tmp_path: Path) -> None:
    write_layout(tmp_path, [layer([Entry("f", data=b"1" * 10_000)])])
    largest = max((tmp_path / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-4] ^= 1
    largest.write_bytes(data)
    with pytest.raises(InvalidError, match=r"damaged|not what its configuration says"):
        load_image(f"oci-layout:{tmp_path}")
