"""Every builder keeps the published contract; what this host lacks is played by stand-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from build_samples import copy_sample, need
from core_infra.build._artifact import host_target
from core_infra.build._builders.registry import BUILDERS
from core_infra.build._project import ProjectType
from core_infra.testing._builder_contract import BuilderContract
from oci_images import Entry, layer, write_layout

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._builders.builder import Builder

HOST = host_target()


class _Sample(BuilderContract):
    """A builder, held to the contract with the sample of its name."""

    __test__ = False
    kind: ClassVar[ProjectType]
    needs: ClassVar[tuple[str, ...]] = ()

    def setup_method(self) -> None:
        need(*self.needs)

    def make_builder(self) -> Builder:
        return BUILDERS[self.kind]

    def make_project(self, directory: Path) -> None:
        copy_sample(self.kind, directory)


class TestGo(_Sample):
    __test__ = True
    kind = ProjectType.GO
    needs = ("go",)
    targets = ("linux/amd64", "windows/amd64")
    expected = ("linux_amd64/greeter", "windows_amd64/greeter.exe")


class TestNode(_Sample):
    __test__ = True
    kind = ProjectType.NODE
    needs = ("node", "npm")
    expected = ("any/greeter",)


class TestPhp(_Sample):
    __test__ = True
    kind = ProjectType.PHP
    needs = ("php", "composer")
    expected = ("any/greeter",)


class TestCpp(_Sample):
    __test__ = True
    kind = ProjectType.CPP
    needs = ("cmake", "c++")
    expected = (f"{HOST.directory}/greeter",)


class TestRust(_Sample):
    __test__ = True
    kind = ProjectType.RUST
    needs = ("cargo", "rustc")
    expected = (f"{HOST.directory}/greeter",)


class TestTaskfile(_Sample):
    __test__ = True
    kind = ProjectType.TASKFILE
    needs = ("task",)
    targets = ("linux/amd64", "darwin/arm64")
    expected = ("linux_amd64/project", "darwin_arm64/project")


class TestDocs(_Sample):
    __test__ = True
    kind = ProjectType.DOCS
    needs = ("-m mkdocs",)
    expected = ("any/project",)


class TestWails(_Sample):
    __test__ = True
    kind = ProjectType.WAILS
    targets = ("linux/amd64", "windows/amd64", "darwin/arm64")
    expected = ("linux_amd64/greeter", "windows_amd64/greeter.exe", "darwin_arm64/greeter.app")
    stand_ins: ClassVar[dict[str, str]] = {
        "go": "print('go version go1.27.3 linux/amd64')",
        "wails": """\
if argv[1] == "build":
    out = Path("build/bin")
    out.mkdir(parents=True)
    name = argv[argv.index("-o") + 1]
    if "darwin/arm64" in argv:
        program = out / f"{name}.app" / "Contents" / "MacOS" / name
        program.parent.mkdir(parents=True)
    else:
        program = out / name
    program.write_text(argv[argv.index("-platform") + 1])
else:
    print("v2.9.2")
""",
    }


class TestDocker(_Sample):
    __test__ = True
    kind = ProjectType.DOCKER
    targets = ("linux/amd64", "linux/arm64")
    expected = ("project.oci.tar",)
    stand_ins: ClassVar[dict[str, str]] = {
        "docker": """\
if "--output" in argv:
    options = dict(word.split("=") for word in argv[argv.index("--output") + 1].split(","))
    Path(options["dest"]).write_text("an image")
else:
    print("github.com/docker/buildx v0.24.0 d0e5e86")
"""
    }


class TestLinuxKit(_Sample):
    __test__ = True
    kind = ProjectType.LINUXKIT
    expected = (f"{HOST.directory}/project",)

    def make_project(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        names = {"kernel": ("kernel", b"a kernel"), "root": ("init", b"#!/bin/sh")}
        for name, (path, data) in names.items():
            write_layout(directory / name, [layer([Entry(path, data=data)])])
        (directory / "linuxkit.yml").write_text(
            "kernel: {image: oci-layout:kernel}\ninit: [oci-layout:root]\n"
        )


class TestTheProgramLinuxKit(_Sample):
    __test__ = True
    kind = ProjectType.LINUXKIT
    targets = ("linux/amd64", "linux/arm64")
    expected = ("linux_amd64/project", "linux_arm64/project")
    stand_ins: ClassVar[dict[str, str]] = {
        "linuxkit": """\
if argv[1] == "build":
    out = Path(argv[argv.index("--dir") + 1])  # which must be there, as linuxkit wants it
    name = argv[argv.index("--name") + 1]
    for suffix in ("kernel", "initrd.img", "cmdline"):
        (out / f"{name}-{suffix}").write_text(suffix)
else:
    print("linuxkit version v1.5.0")
"""
    }

    def make_project(self, directory: Path) -> None:
        super().make_project(directory)
        (directory / ".core").mkdir()
        (directory / ".core" / "build.yaml").write_text("linuxkit: {assembler: linuxkit}\n")


class TestPython(_Sample):
    __test__ = True
    kind = ProjectType.PYTHON
    needs = ("-m build", "-m hatchling")
    expected = ("greeter-1.0.0-py3-none-any.whl", "greeter-1.0.0.tar.gz")

    def make_project(self, directory: Path) -> None:
        super().make_project(directory)
        # The backend of the tests' own environment: no index is asked, and it is quick.
        (directory / ".core").mkdir()
        (directory / ".core" / "build.yaml").write_text("build: {flags: [--no-isolation]}\n")


def test_a_builder_for_each_kind_of_project() -> None:
    assert set(BUILDERS) == set(ProjectType)
    assert all(builder.name == kind for kind, builder in BUILDERS.items())
