"""A persistent machine of a LinuxKit file: the agent is put into it at each start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._manager.run_options import RunOptions
from core_infra.vm._manager.volumes import can_serve
from linuxkit_images import write_busybox

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._manager.manager import LinuxKitManager

FILE = """\
services:
- {{name: web, image: {image}, command: [busybox, httpd, -f, -p, '8080', -h, /bin]}}
onshutdown:
- {{name: bye, image: {image}, command: [sh, -c, 'echo said at the end']}}
"""


def test_it_is_entered_by_the_agent_and_stopped_by_its_own_init(
    manager: LinuxKitManager, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/here").write_text("from the host\n")
    file = tmp_path / "own.yml"
    file.write_text(FILE.format(image=write_busybox(tmp_path / "image")))
    volumes = {str(tmp_path / "volume"): "/mnt/v"} if can_serve() else {}
    manager.run(file, RunOptions(name="assembled", detach=True, volumes=volumes))
    assert manager.exec("assembled", "oci-runtime list -q").check().stdout == "web\n"
    if volumes:
        assert manager.exec("assembled", "cat /mnt/v/here").stdout == "from the host\n"
    stopped = manager.stop("assembled", grace=60)
    assert stopped.reason == "the guest shut down"
    assert b"said at the end" in b"".join(manager.logs("assembled"))
    manager.remove("assembled")
