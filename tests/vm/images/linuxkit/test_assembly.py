"""Images of LinuxKit files: what is in them, and that the same file is the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import CoreInfraError, InvalidError, InvalidFileError, NotFoundError
from core_infra.vm._images.disk.tree import Node, walk
from core_infra.vm._images.linuxkit.archives import content, read_cpio
from core_infra.vm._images.linuxkit.assemblers import LinuxKitProgram, OwnAssembler
from core_infra.vm._images.linuxkit.containers import LABEL
from core_infra.vm._images.linuxkit.lock import find_lock, lock_path, write_lock
from core_infra.vm._images.linuxkit.output import build_files
from core_infra.vm._images.linuxkit.plan import make_plan
from oci_images import Entry, folder, hard_link, layer, link, write_layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE = """\
kernel: {image: oci-layout:kernel, cmdline: console=ttyS0, ucode: ucode}
init: [oci-layout:first, oci-layout:second]
volumes:
- {name: data, image: oci-layout:app}
- {name: empty}
- {name: layout, image: oci-layout:app, format: oci}
onboot:
- {name: one, image: oci-layout:app, readonly: true}
- {name: two, image: oci-layout:app, command: [x], binds: ['data:/d']}
onshutdown:
- {name: bye, image: oci-layout:app}
services:
- {name: web, image: oci-layout:other, command: [serve], uid: web}
files:
- {path: etc/new/deep, contents: hello, uid: web, gid: 5}
- {path: /etc/open, contents: '', mode: '0644'}
- {path: srv, directory: true, mode: '1777'}
- {path: etc/link, symlink: open}
- {path: etc/src, source: source.txt}
- {path: etc/gone, source: nowhere, optional: true}
- {path: etc/linuxkit.json, metadata: json}
"""


def archive(entries: Sequence[Entry]) -> bytes:
    return layer(entries)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LinuxKit file, with all that it names beside it; it is the working directory."""
    modules = archive([Entry("./lib/modules/6/a.ko", data=b"module")])
    images: dict[str, list[list[Entry]]] = {
        "kernel": [
            [
                Entry("kernel", data=b"the kernel"),
                Entry("kernel.tar", data=modules),
                Entry("ucode", data=b"microcode"),
                Entry("kernel-dev.tar", data=b"unused"),
            ]
        ],
        "first": [
            [
                folder("usr/lib"),
                link("lib", "usr/lib"),
                Entry("init", data=b"#!first", mode=0o755),
                Entry("usr/lib/apk/db/installed", data=b"P:a"),
                folder("etc"),
                Entry("etc/hostname", data=b"docker"),
                Entry("gone"),
            ],
            [Entry(".wh.gone")],
        ],
        "second": [
            [
                Entry("init", data=b"#!second", mode=0o755, owner=(3, 4)),
                Entry("lib/apk/db/installed", data=b"P:b"),
            ]
        ],
        "app": [[Entry("bin/app", data=b"app", mode=0o4755), hard_link("bin/same", "bin/app")]],
        "other": [[Entry("bin/other", data=b"other")]],
    }
    label = json.dumps({"capabilities": ["CAP_KILL"], "tmpfs": ["/t"]})
    config = {"Entrypoint": ["/bin/app"], "Labels": {LABEL: label}}
    for name, layers in images.items():
        write_layout(tmp_path / name, [layer(one) for one in layers], config=config)
    (tmp_path / "linuxkit.yml").write_text(FILE)
    (tmp_path / "source.txt").write_text("from the host")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(project: Path, target: str = "out", **options: Any) -> Path:
    settings: dict[str, Any] = {"arch": "x86_64", "formats": ["kernel+initrd"]} | options
    build_files([project / "linuxkit.yml"], project / target, name="n", progress=print, **settings)
    return project / target / "n"


def unpacked(prefix: Path, microcode: bytes = b"") -> Node:
    packed = prefix.with_name(f"{prefix.name}-initrd.img").read_bytes()
    assert packed.startswith(microcode)
    start = len(microcode) + -len(microcode) % 4
    plain = prefix.with_name("plain")
    plain.write_bytes(gzip.decompress(packed[start:]))
    return read_cpio(plain)


def at(tree: Node, path: str) -> Node:
    for part in path.split("/"):
        tree = tree.entries[part.encode()]
    return tree


def text(tree: Node, path: str) -> str:
    return b"".join(content(at(tree, path))).decode()


def test_everything_has_its_place(project: Path) -> None:
    prefix = build(project)
    assert prefix.with_name("n-kernel").read_bytes() == b"the kernel"
    assert prefix.with_name("n-cmdline").read_text() == "console=ttyS0\n"
    tree = unpacked(prefix, b"microcode")
    assert text(tree, "init") == "#!second"
    assert (at(tree, "init").uid, at(tree, "init").gid) == (3, 4)
    assert at(tree, "lib").target == b"usr/lib"
    assert text(tree, "usr/lib/modules/6/a.ko") == "module"
    assert text(tree, "usr/lib/apk/db/installed") == "P:a\n\nP:b\n\n"
    assert at(tree, "etc/resolv.conf").target == b"/run/resolvconf/resolv.conf"
    assert b"gone" not in tree.entries
    assert b"hostname" not in at(tree, "etc").entries
    bundles = at(tree, "containers")
    assert {name: sorted(node.entries) for name, node in bundles.entries.items()} == {
        b"onboot": [b"000-one", b"001-two"],
        b"onshutdown": [b"000-bye"],
        b"services": [b"web"],
        b"volumes": [b"data", b"empty", b"layout"],
    }
    assert sorted(at(bundles, "onboot/000-one").entries) == [
        *(b"config.json", b"rootfs", b"runtime.json"),
    ]
    assert sorted(at(bundles, "onboot/001-two").entries) == [
        *(b"config.json", b"rootfs", b"runtime.json", b"tmp"),
    ]
    assert sorted(at(bundles, "volumes/data").entries) == [b"lower", b"merged", b"tmp"]
    index = json.loads(text(bundles, "volumes/layout/lower/index.json"))
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    assert "layers" in json.loads(text(bundles, f"volumes/layout/lower/blobs/sha256/{digest}"))


def test_an_image_is_there_once_with_its_hard_links(project: Path) -> None:
    tree = unpacked(build(project), b"microcode")
    root = at(tree, "containers/onboot/000-one/rootfs/bin")
    assert stat.S_IMODE(root.entries[b"app"].mode) == 0o4755
    assert [path for path, _ in walk(tree) if path.endswith(b"/bin/app")] == [
        b"/containers/onboot/000-one/rootfs/bin/app",
        b"/containers/volumes/data/lower/bin/app",
    ]
    runtime = json.loads(text(tree, "containers/onboot/001-two/runtime.json"))
    assert runtime["mounts"][2]["options"][0] == "lowerdir=/containers/onboot/000-one/rootfs"
    config = json.loads(text(tree, "containers/onboot/001-two/config.json"))
    assert config["process"]["args"] == ["x"]
    assert config["process"]["capabilities"]["effective"] == ["CAP_KILL"]
    binds = [one for one in config["mounts"] if one["type"] == "bind"]
    assert [one["source"] for one in binds] == ["/containers/volumes/data/merged"]
    web = json.loads(text(tree, "containers/services/web/config.json"))
    assert web["process"]["user"] == {"uid": 103, "gid": 0}


def test_files_make_only_the_directories_that_are_missing(project: Path) -> None:
    tree = unpacked(build(project), b"microcode")
    facts = {
        path: (oct(stat.S_IMODE(node.mode)), node.uid, node.gid)
        for path in ("etc", "etc/new", "etc/new/deep", "etc/open", "srv", "etc/src")
        for node in [at(tree, path)]
    }
    assert facts == {
        "etc": ("0o755", 0, 0),
        "etc/new": ("0o755", 0, 0),
        "etc/new/deep": ("0o600", 103, 5),
        "etc/open": ("0o644", 0, 0),
        "srv": ("0o1777", 0, 0),
        "etc/src": ("0o600", 0, 0),
    }
    assert text(tree, "etc/src") == "from the host"
    assert at(tree, "etc/link").target == b"open"
    assert b"gone" not in at(tree, "etc").entries
    assert json.loads(text(tree, "etc/linuxkit.json"))["init"][0] == "oci-layout:first"


def test_the_same_file_is_the_same_bytes(project: Path) -> None:
    formats = ["kernel+initrd", "tar"]
    one, other = (build(project, target, formats=formats) for target in ("one", "other"))
    names = sorted(path.name for path in one.parent.iterdir())
    assert names == ["n-cmdline", "n-initrd.img", "n-kernel", "n.tar"]
    for name in names:
        assert one.with_name(name).read_bytes() == other.with_name(name).read_bytes()
    with tarfile.open(one.with_name("n.tar")) as found:
        kernel = found.extractfile("boot/kernel")
        assert kernel is not None
        assert kernel.read() == b"the kernel"


def test_a_lock_is_honoured_and_checked(project: Path) -> None:
    file = project / "linuxkit.yml"
    assert find_lock([file]) is None
    lock = write_lock(file, progress=print)
    assert lock_path(file).read_text().startswith("# The images of linuxkit.yml")
    assert find_lock([file]) == lock
    build(project)
    write_layout(project / "other", [layer([Entry("bin/other", data=b"changed")])])
    with pytest.raises(InvalidError, match="oci-layout:other is not the image of the lock"):
        build(project, "changed")
    assert not (project / "changed").exists()
    file.write_text(FILE.replace("oci-layout:other", "oci-layout:second"))
    build(project)  # it is in the lock as well
    with pytest.raises(NotFoundError, match=r"linux/arm64.*\n?.*it has those for linux/amd64"):
        build(project, arch="aarch64")
    lock_path(file).write_text('version: "1"\nimages: {a: {linux/amd64: x}}\n')
    with pytest.raises(InvalidFileError, match=r"linuxkit.lock:2: images.a.linux/amd64: expected"):
        build(project)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("image: oci-layout:kernel", "binary: k, image: oci-layout:kernel"), "has no file k:"),
        (
            ("ucode: ucode", "ucode: none"),
            r"has no file none: it has kernel, kernel-dev.tar, .*\n.* in kernel\.ucode\.",
        ),
        (("ucode: ucode", "tar: modules.tar"), "has no file modules.tar"),
        (("oci-layout:other", "oci-layout:nowhere"), "no OCI image layout in .*nowhere"),
        (("source.txt", "nothing.txt"), r"cannot read .*nothing.txt, the source of etc/src"),
        (("source.txt", "fifo"), r"cannot read .*fifo, the source of etc/src: it is not a regular"),
        ((", command: [serve]", ""), None),
        (("oci-layout:other, command: [serve]", "oci-layout:bare"), "web, on line 13, has nothing"),
    ],
)
def test_what_is_missing_is_one_sentence_and_leaves_nothing(
    project: Path, change: tuple[str, str], message: str | None
) -> None:
    write_layout(project / "bare", [layer([])])
    os.mkfifo(project / "fifo")
    file = project / "linuxkit.yml"
    assert change[0] in FILE
    file.write_text(FILE.replace(*change))
    if message is None:
        build(project)
        return
    with pytest.raises(CoreInfraError, match=message):
        build(project)
    out = project / "out"
    assert not out.exists() or not list(out.iterdir())


PROGRAM = f"""\
#!{sys.executable}
import argparse, pathlib, sys
if sys.argv[1:] == ["version"]:
    sys.exit(print("linuxkit version v1.5.2"))
parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("format", "name", "arch", "dir"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("file")
given = parser.parse_args(sys.argv[2:])
assert (given.format, given.arch in ("amd64", "arm64")) == ("kernel+initrd", True)
for part in ("kernel", "initrd.img", "cmdline"):
    pathlib.Path(given.dir, given.name + "-" + part).write_text(part)
"""


@pytest.mark.parametrize("kind", [OwnAssembler, LinuxKitProgram])
def test_both_assemblers_keep_one_contract(
    project: Path, monkeypatch: pytest.MonkeyPatch, kind: type[OwnAssembler | LinuxKitProgram]
) -> None:
    program = project / "bin" / "linuxkit"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    assembler = kind()
    assert assembler.version()
    made = project / "made"
    made.mkdir()
    assembler.assemble(project / "linuxkit.yml", made, "x86_64")
    names = {path.name for path in made.iterdir()}
    assert names >= {"image-kernel", "image-initrd.img", "image-cmdline"}


def test_a_packed_tar_of_modules_is_unpacked(project: Path) -> None:
    modules = gzip.compress(archive([Entry("lib/modules/x", data=b"1")]))
    entries = [Entry("kernel", data=b"k"), Entry("kernel.tar", data=modules)]
    write_layout(project / "kernel", [layer(entries)])
    (project / "linuxkit.yml").write_text(
        "kernel: {image: oci-layout:kernel}\ninit: [oci-layout:first]\n"
    )
    assert text(unpacked(build(project)), "usr/lib/modules/x") == "1"
    assert tarfile.is_tarfile(BytesIO(archive([])))


def test_the_agent_is_put_into_an_image_that_is_to_have_it(project: Path) -> None:
    tree = unpacked(build(project, agent=True), b"microcode")
    assert at(tree, "usr/local/sbin/core-infra-agent").mode & 0o777 == 0o755
    assert at(tree, "etc/init.d/999-core-infra-agent").mode & 0o777 == 0o755
    with pytest.raises(KeyError):
        at(unpacked(build(project, "plain"), b"microcode"), "usr/local")


def test_what_a_killed_build_has_left_is_removed_by_the_next_one(project: Path) -> None:
    # The signal comes while the image is written: its lines say when that is.
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from core_infra.vm._images.linuxkit.output import build_files\n"
        "def progress(line):\n"
        "    if line == 'writing the image': os.kill(os.getpid(), signal.SIGKILL)\n"
        "build_files([Path('linuxkit.yml')], Path('out'), name='n', arch='x86_64',\n"
        "    formats=['tar'], progress=progress)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name[:12] for path in (project / "out").iterdir()] == [".assembling-"]
    build(project, formats=["tar"])
    assert [path.name for path in (project / "out").iterdir()] == ["n.tar"]


def write_platforms(directory: Path, **contents: bytes) -> None:
    """Write a layout whose image has a version for each of some architectures."""
    entries = []
    for name, data in contents.items():
        write_layout(directory, [layer([Entry("app", data=data)])], architecture=name)
        (entry,) = json.loads((directory / "index.json").read_bytes())["manifests"]
        entries.append(entry | {"platform": {"os": "linux", "architecture": name}})
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    digest = hashlib.sha256(index).hexdigest()
    (directory / "blobs" / "sha256" / digest).write_bytes(index)
    top = {"digest": f"sha256:{digest}", "size": len(index)}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))


@pytest.mark.parametrize(
    ("platforms", "expected", "changes"),
    [
        ("", ["amd64", "arm64"], True),
        (", platforms: [linux/amd64]", ["amd64"], False),
        (", platforms: [linux/arm64/v8]", ["arm64"], True),
        (", platforms: []", ["amd64", "arm64"], True),
    ],
)
def test_a_volume_of_an_image_has_its_platforms(
    project: Path, platforms: str, expected: list[str], changes: object
) -> None:
    write_platforms(project / "both", amd64=b"a", arm64=b"b")
    volume = f"volumes: [{{name: v, image: oci-layout:both, format: oci{platforms}}}]"
    text_of_file = f"kernel: {{image: oci-layout:kernel}}\ninit: [oci-layout:first]\n{volume}\n"
    (project / "linuxkit.yml").write_text(text_of_file)
    files = [("f", text_of_file.encode())]
    tree = unpacked(build(project))
    index = json.loads(text(tree, "containers/volumes/v/lower/index.json"))
    assert [one["platform"]["architecture"] for one in index["manifests"]] == expected
    before = make_plan(files, "x86_64", progress=print).identity()
    write_platforms(project / "both", amd64=b"a", arm64=b"c")
    assert (make_plan(files, "x86_64", progress=print).identity() != before) is changes
    write_lock(project / "linuxkit.yml", progress=print)
    build(project)


def test_a_volume_of_an_image_needs_none_for_the_machine_itself(project: Path) -> None:
    write_platforms(project / "arm", arm64=b"b")
    head = "kernel: {image: oci-layout:kernel}\ninit: [oci-layout:first]\n"
    file = project / "linuxkit.yml"
    file.write_text(f"{head}volumes: [{{name: v, image: oci-layout:arm, format: oci}}]\n")
    build(project)
    write_platforms(project / "arm", s390x=b"b")
    with pytest.raises(NotFoundError, match="oci-layout:arm has no version for linux/amd64 or lin"):
        build(project, "other")


KILLED = """
import os, pathlib, shutil, signal, sys
from core_infra.vm._images.linuxkit.output import build_files

def build(name, at=-1):
    def hook(event, arguments):
        nonlocal at
        if event in ("os.rename", "os.remove") and "out" in str(arguments[0]):
            if not at:
                os.kill(os.getpid(), signal.SIGKILL)
            at -= 1
    if at >= 0:
        sys.addaudithook(hook)
    build_files([pathlib.Path("linuxkit.yml")], pathlib.Path("out"), name=name, arch="x86_64",
        formats=["kernel+initrd", "tar"], progress=lambda _: None)

def state():
    return {path.name: path.read_bytes() for path in pathlib.Path("out").glob("n*")}

def in_a_child(*arguments):
    pid = os.fork()
    if not pid:
        build(*arguments)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

build("n")
old = state()
text = pathlib.Path("linuxkit.yml").read_text()
pathlib.Path("linuxkit.yml").write_text(text.replace("contents: hello", "contents: changed"))
pathlib.Path("kernel").rename("former")
pathlib.Path("other-kernel").rename("kernel")
build("n")
new = state()
changed = [name for name in old if old[name] != new[name]]
assert len(changed) == 3, changed
for at in range(100):
    shutil.rmtree("out")
    os.mkdir("out")
    for name, data in old.items():
        pathlib.Path("out", name).write_bytes(data)
    ended = in_a_child("n", at)
    found = state()
    kinds = {found[name] == new[name] for name in changed if name in found}
    assert len(kinds) < 2, f"killed at {at}: a mix of old and new"
    build("m")
    assert state() in (old, new), f"after a kill at {at}: not whole"
    assert all(not name.startswith(".") for name in os.listdir("out")), at
    if not ended:
        sys.exit(print(at))
"""


def test_a_build_that_is_killed_leaves_the_old_files_or_the_new_ones(project: Path) -> None:
    entries = [Entry("kernel", data=b"changed"), Entry("ucode", data=b"microcode")]
    modules = archive([Entry("lib/modules/6/a.ko", data=b"other")])
    write_layout(project / "other-kernel", [layer([*entries, Entry("kernel.tar", data=modules)])])
    ran = subprocess.run(
        [sys.executable, "-c", KILLED], check=False, text=True, capture_output=True
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 8  # it was killed between all steps
