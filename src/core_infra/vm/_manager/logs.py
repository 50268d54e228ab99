"""What a machine's console prints, as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core_infra.vm._manager.process_identity import ForeignProcess

_CHUNK = 1 << 16
_INTERVAL = 0.1


def follow_log(path: Path, process: ForeignProcess | None) -> Iterator[bytes]:
    """The content of a log, piece by piece.

    Args:
        path: the log.
        process: while it runs, wait for more; None ends at the log's end. It is closed.
    """
    try:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            while True:
                # Looked at before reading: what was written before the end is read after it.
                ended = process is None or process.wait(0)
                while data := file.read(_CHUNK):
                    yield data
                if ended:
                    return
                assert process is not None  # noqa: S101 - else it had ended
                process.wait(_INTERVAL)
    finally:
        if process is not None:
            process.close()
