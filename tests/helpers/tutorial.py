"""Runs a tutorial as it is written: writes its files and runs its commands, in an empty folder.

- A block after a paragraph that ends with a name in backquotes, some words and a colon is the
  content of that file.
- In a block ``console``, a line that begins with ``$`` is a command, and the lines below are its
  output, where ``...`` stands for any text. Without such lines, the output does not matter.
- ``<!-- exit: 1 -->`` before a block: its last command ends with this code.
- ``<!-- skip: why -->`` before a block: it is not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w./-]+)`[^`]*:$")
_NOTE = re.compile(r"<!-- (exit|skip): (.+) -->$")
_TIMEOUT = 300


class Block(NamedTuple):
    """A block of a page.

    Attributes:
        line: its line in the page.
        language: as the page says.
        text: its content.
        file: the file that it is to be written to, if any.
        notes: the comments before it.
    """

    line: int
    language: str
    text: str
    file: str
    notes: dict[str, str]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in their order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        *_, paragraph = re.split(r"\n\n+", text[: found.start()].rstrip("\n"))
        *words, last = paragraph.rpartition("\n")
        note = _NOTE.match(last)
        notes = {note[1]: note[2]} if note else {}
        named = _FILE.search(words[0] if note else paragraph)
        line = text.count("\n", 0, found.start()) + 1
        yield Block(line, found[1], found[2], named[1] if named else "", notes)


def run(page: Path, folder: Path) -> None:
    """Do what the page says, in a folder.

    Raises:
        AssertionError: a command ended with another code, or printed something else.
    """
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if "skip" in block.notes:
            continue
        if block.language == "console":
            _run_commands(block, folder, where)
        elif block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)


def _run_commands(block: Block, folder: Path, where: str) -> None:
    # What the reader installs is what runs this.
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": "100",
    }
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    for number, part in enumerate(parts, 1):
        command, _, expected = part.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        said = f"{where}: $ {command}\n{done.stdout}"
        code = int(block.notes.get("exit", 0)) if number == len(parts) else 0
        assert done.returncode == code, f"{said}exit code {done.returncode}"
        pattern = ".*".join(map(re.escape, expected.strip().split("...")))
        assert not expected or re.fullmatch(pattern, done.stdout.strip(), re.DOTALL), said
