"""The configuration that a machine reads at its first boot: its name, and the login's public key.

It is on a disc, in two forms: NoCloud, which cloud-init reads, and the ``config`` of LinuxKit's
package ``metadata``.
"""

from __future__ import annotations

import importlib
import io
import json
from typing import TYPE_CHECKING

from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LABEL = "cidata"  # by which cloud-init finds a NoCloud disc


def nocloud(
    *, id_: str, name: str, user: str, key: str, boot_command: Sequence[str] = ()
) -> dict[str, bytes]:
    """The files for cloud-init.

    Args:
        id_: the machine's id; with a new one, cloud-init runs as at a first boot.
        name: the machine's host name.
        user: the user who may log in, besides the image's own user.
        key: the public key of both.
        boot_command: a command that root runs at each boot.
    """
    data: dict[str, object] = {
        "users": ["default", {"name": user, "ssh_authorized_keys": [key]}],
        "ssh_authorized_keys": [key],
        "disable_root": False,
        "ssh_pwauth": False,
    }
    if boot_command:
        data["bootcmd"] = [[*boot_command]]
    about = {"instance-id": id_, "local-hostname": name}
    return {
        "user-data": b"#cloud-config\n" + json.dumps(data, indent=1).encode() + b"\n",
        "meta-data": json.dumps(about).encode() + b"\n",
    }


def linuxkit(*, key: str) -> dict[str, bytes]:
    """The file for LinuxKit, whose ``metadata`` writes it to /run/config/ssh/authorized_keys."""
    entry = {"perm": "0600", "content": f"{key}\n"}
    data = {"ssh": {"entries": {"authorized_keys": entry}}}
    return {"config": json.dumps(data).encode()}


def write_disc(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an ISO 9660 disc.

    Raises:
        UnavailableError: pycdlib is not installed.
    """
    try:
        pycdlib = importlib.import_module("pycdlib")
    except ImportError as error:
        raise UnavailableError(
            "cannot write the disc that configures a machine's login",
            why="this needs pycdlib",
            todo="Install it with: pip install core-infra[ssh]",
        ) from error
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=_LABEL)
    for number, (name, data) in enumerate(files.items()):
        disc.add_fp(
            io.BytesIO(data),
            len(data),
            f"/FILE{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
        )
    disc.write(str(path))
    disc.close()
