"""Machines of a LinuxKit template, as a test asks for them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core_infra.vm._cache import cache_root
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.initrd import cpio, file

# Takes what linuxkit's manual names, and puts the file that it is given into the image: the real
# program fetches the image's parts from a registry.
STAND_IN = f"""\
#!{sys.executable}
import argparse, os, pathlib, shutil, sys
if sys.argv[1:] == ["version"]:
    print("linuxkit version v1.5.2, of", os.environ["STANDIN"])
    sys.exit()
command, *rest = sys.argv[1:]
assert command == "build"
parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("format", "name", "arch", "dir"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("file")
given = parser.parse_args(rest)
assert (given.format, given.arch in ("amd64", "arm64")) == ("kernel+initrd", True)
for part in ("kernel", "initrd.img", "cmdline"):
    shutil.copyfile(os.environ["STANDIN"] + "-" + part, f"{{given.dir}}/{{given.name}}-{{part}}")
with open(os.environ["STANDIN"] + "-built", "a") as log:
    log.write(pathlib.Path(given.file).read_text())
"""
START = "#!/bin/sh\n/etc/init.d/rcS\nfor s in /etc/init.d/[0-9]*; do $s; done\n"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What linuxkit, on PATH now, was given to build."""
    default = default_image(host_arch(), cache_dir=cache_root())
    assert default.initrd is not None
    inittab = f"::sysinit:/etc/init.d/start\n{default.console}::respawn:-/bin/sh\n"
    first = default.initrd.read_bytes()
    own = cpio(
        [file("etc/init.d/start", START.encode(), 0o755), file("etc/inittab", inittab.encode())]
    )
    Path(f"{tmp_path}/kit-kernel").write_bytes(default.kernel.read_bytes())
    Path(f"{tmp_path}/kit-initrd.img").write_bytes(first + b"\0" * (-len(first) % 4) + own)
    Path(f"{tmp_path}/kit-cmdline").write_text(default.cmdline)
    program = tmp_path / "bin" / "linuxkit"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("STANDIN", str(tmp_path / "kit"))
    return tmp_path / "kit-built"


def test_a_template_is_built_once_and_run(
    pytester: pytest.Pytester, built: Path, runs: Path
) -> None:
    directory = pytester.path / ".core" / "linuxkit"
    directory.mkdir(parents=True)
    (directory / "mine.yml").write_text("# Mine\nkernel: {image: ${KERNEL}}\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.core_vm(template="mine", variables={"KERNEL": "a: b"}, memory=128)
        def test_by_marker(core_vm):
            assert core_vm.exec("echo here").stdout == "here\\n"

        def test_by_call(core_vm_factory):
            vm = core_vm_factory(template="mine", variables={"KERNEL": "a: b"}, memory=128)
            assert vm.exec("echo here").stdout == "here\\n"

        def test_what_is_missing_is_named(core_vm_factory):
            with pytest.raises(Exception, match="KERNEL"):
                core_vm_factory(template="mine")
            with pytest.raises(Exception, match="no template 'other'"):
                core_vm_factory(template="other")
            with pytest.raises(Exception, match="either image="):
                core_vm_factory(template="mine", image="x")
        """
    )
    pytester.runpytest_subprocess("--core-vm", "--core-vm-accel=tcg").assert_outcomes(passed=3)
    assert built.read_text() == '# Mine\nkernel: {image: "a: b"}\n', "once, and a value stays one"
    assert runs.exists()


def test_where_linuxkit_is_not_the_error_says_so(
    pytester: pytest.Pytester, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_KEY", "")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.core_vm(template="core-dev", variables={"SSH_KEY": "ssh-ed25519 AAAA me"})
        def test_it(core_vm): pass
        """
    )
    result = pytester.runpytest_subprocess("--core-vm", "--core-vm-accel=tcg")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*linuxkit is not on PATH*", "*Install it from*"])
    assert runs.exists()
