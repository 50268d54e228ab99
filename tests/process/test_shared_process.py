"""What a participant reads from the host of a shared process."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from core_infra.process._shared_process import HostConnection

if TYPE_CHECKING:
    from pathlib import Path


def test_an_end_that_arrives_with_the_start_is_reported(tmp_path: Path) -> None:
    ours, of_host = socket.socketpair()
    messages = [{"facts": {"port": 1}, "pid": 2, "grace": 5.0}, {"ended": "signal 9"}]
    with of_host:
        of_host.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in messages))
        host = HostConnection(tmp_path, ours)
        assert host.await_ready() == ({"port": 1}, 2)
        assert host.ended() == "signal 9"
        host.send(b"bye\n")
    host.await_close()
