"""Machines of LinuxKit files, as a test asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linuxkit_images import write_busybox
from oci_images import Entry, folder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

FILE = """\
# Mine
services:
  - name: web
    image: {address}
    capabilities: [CAP_NET_BIND_SERVICE]
    command: [/bin/busybox, httpd, -f, -p, "80", -h, /www]
"""
PAGE = "hello from the image"


def test_a_template_and_a_file_become_machines(
    pytester: pytest.Pytester, tmp_path: Path, runs: Path
) -> None:

    page = [folder("www"), Entry("www/index.html", data=PAGE.encode())]
    address = write_busybox(tmp_path / "web", more=page)
    directory = pytester.path / ".core" / "linuxkit"
    directory.mkdir(parents=True)
    (directory / "mine.yml").write_text(FILE.format(address="${WEB}"))
    (pytester.path / "web.yml").write_text(FILE.format(address=address))
    pytester.makepyfile(
        f"""
        import pytest

        WEB = {address!r}

        @pytest.mark.core_vm(template="mine", variables={{"WEB": WEB}})
        def test_by_marker(core_vm):
            assert core_vm.exec("wget -qO- http://127.0.0.1/").stdout == {PAGE!r}

        def test_by_call(core_vm_factory):
            vm = core_vm_factory(image="web.yml")
            assert vm.exec("wget -qO- http://127.0.0.1/").stdout == {PAGE!r}

        def test_what_is_missing_is_named(core_vm_factory):
            with pytest.raises(Exception, match="WEB"):
                core_vm_factory(template="mine")
            with pytest.raises(Exception, match="no template 'other'"):
                core_vm_factory(template="other")
            with pytest.raises(Exception, match="either image="):
                core_vm_factory(template="mine", image="x")
        """
    )
    pytester.runpytest_subprocess("--core-vm", "--core-vm-accel=tcg").assert_outcomes(passed=3)
    assert runs.exists()
