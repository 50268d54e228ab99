"""A PostgreSQL server for tests, from the distribution's package."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def program(name: str) -> str | None:
    """Debian keeps the server's programs out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A server on a Unix socket; its address."""
    where = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a short path, open to its user
    options: dict[str, Any] = {"cwd": where}
    if os.geteuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(where, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = where / "data"
    initdb, postgres = program("initdb"), program("postgres")
    assert initdb is not None
    assert postgres is not None
    try:
        subprocess.run(
            [initdb, "-D", data, "-A", "trust", "-U", "bot", "--no-sync"],
            check=True,
            capture_output=True,
            **options,
        )
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={where}", "-F"]
        with subprocess.Popen(
            [postgres, "-D", data, *settings], stderr=subprocess.PIPE, text=True, **options
        ) as server:
            assert server.stderr is not None
            assert any("ready to accept connections" in line for line in server.stderr)
            try:
                yield f"host={where} user=bot dbname=postgres"
            finally:
                server.send_signal(signal.SIGQUIT)  # at once
                server.stderr.close()
                server.wait(30)
    finally:
        shutil.rmtree(where)
