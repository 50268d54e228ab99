"""Makes the pictures of the documentation from what the programs print: docs/pictures/*.svg.

Run: nox -s pictures [-- NAME...]

Each scene is a folder with files and a command, run as a reader would; its output, colours
included, becomes an SVG by rich. The page of a capsule is photographed by Chromium.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
WIDTH = 100

_SHOP = """\
#!/bin/sh
read port </etc/shop.conf || exit 1
exec httpd -f -p "$port" -h /srv
"""
_FAILING = """\
from core_infra.vm import Machine


def test_the_machine_is_warm(core_vm: Machine):
    assert core_vm.exec("true").exit_code == 0


def test_the_shop_opens(core_vm: Machine):
    core_vm.push("shop.sh", "/usr/local/bin/shop")
    core_vm.write_text("/etc/shop.conf", "8080\\n")
    core_vm.exec("chmod 600 /etc/shop.conf; mkdir -p /srv/orders")
    core_vm.exec("sh /usr/local/bin/shop & sleep 0.1", user="tester")
    core_vm.wait_for_port(8080, timeout=1)
"""
_TASKS = """\
tasks:
  fetch:     {command: [sleep, "0.2"]}
  compile:   {command: [sleep, "0.6"], after: [fetch]}
  lint:      {shell: "echo 'main.c:3: unused variable' >&2; exit 1", after: [fetch]}
  test:      {command: [sleep, "0.3"], after: [compile]}
  package:   {command: [sleep, "0.2"], after: [test, lint]}
"""
_JOBS = """\
sources:
  - {type: directory, path: signals}
handlers:
  - {type: dispatch, queue: queue}
  - type: command
    name: greet
    command: [sh, -c, "cat >>seen.jsonl"]
    when: {pr_state: OPEN, check_status: SUCCESS}
"""
_SIGNALS = """\
[{"repo_owner": "acme", "repo_name": "widgets", "epic_number": 1, "child_number": 42,
  "pr_number": 50, "pr_state": "OPEN", "check_status": "SUCCESS"},
 {"repo_owner": "acme", "repo_name": "widgets", "epic_number": 1, "child_number": 44,
  "needs_coding": true, "assignee": "ann"}]
"""


class Scene(NamedTuple):
    """What a picture shows.

    Attributes:
        shown: the command that the picture shows.
        files: the content of files in the folder where it runs.
        command: the command that is run, if it is another one.
        skipped: a pattern; lines that it matches are left out.
    """

    shown: str
    files: dict[str, str]
    command: str = ""
    skipped: str = r"^$^"


SCENES = {
    "report": Scene(
        "pytest --core-vm",
        {"tests/test_shop.py": _FAILING, "shop.sh": _SHOP},
        f"{sys.executable} -m pytest --core-vm -q -p no:cacheprovider",
        r"^(core_vm: (building|trying|booting)|\(all of it:)",
    ),
    "tasks": Scene("core-infra run tasks.yml", {"tasks.yml": _TASKS}),
    "dry-run": Scene(
        "core-infra jobs dry-run", {".core/jobs.yaml": _JOBS, "signals/a.json": _SIGNALS}
    ),
}


def main() -> None:
    """Make all pictures, or those that are named."""
    PICTURES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCENES:
        scene = SCENES[name]
        with tempfile.TemporaryDirectory() as folder:
            text = played(scene, Path(folder))
            draw(name, scene.shown, text)
            for capsule in Path(folder).glob("core-vm-results/*.capsule"):
                photograph(capsule)
        print(PICTURES / f"{name}.svg")


def played(scene: Scene, folder: Path) -> str:
    """Run the command of a scene on a terminal, and return what it leaves on the screen."""
    for path, content in scene.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": str(WIDTH),
        "LINES": "40",
        "TERM": "xterm-256color",
        "FORCE_COLOR": "1",
    }
    with subprocess.Popen(
        ["sh", "-c", scene.command or scene.shown],
        cwd=folder,
        env=environment,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        output = b""
        while data := _read(ours):
            output += data
    os.close(ours)
    return _last_screen(output.decode(errors="replace"), scene.skipped)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: all programs of the terminal have ended
        return b""


def _last_screen(output: str, skipped: str) -> str:
    """The lines that remain: a live display moves up and writes over what it has drawn."""
    lines: list[str] = []
    row = 0
    for part in re.split(r"(\x1b\[\d*A|\n)", output.replace("\r\n", "\n")):
        if part == "\n":
            row += 1
        elif up := re.fullmatch(r"\x1b\[(\d*)A", part):
            row -= int(up[1] or 1)
        else:
            lines += [""] * (row + 1 - len(lines))
            cleared = "\r" in part or "\x1b[2K" in part
            text = re.sub(r"\x1b\[(\?25[lh]|\d*K)|\r", "", part)
            lines[row] = text if cleared else lines[row] + text
    plain = re.compile(r"\x1b\[[\d;]*m")
    kept = [line for line in lines if not re.match(skipped, plain.sub("", line))]
    return "\n".join(kept).strip("\n")


def draw(name: str, command: str, text: str) -> None:
    """Write a picture of a terminal."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(f"$ {command}"), style="bold")
        console.print(Text.from_ansi(text))
    svg = console.export_svg(title=name, unique_id=name)
    # Fonts from the network are a request to somebody else by each reader.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    (PICTURES / f"{name}.svg").write_text(svg)


def photograph(capsule: Path) -> None:
    """Write a picture of a capsule's page."""
    page = capsule.with_suffix(".html")
    show = [sys.executable, "-m", "core_infra", "vm", "show", str(capsule), "--output", str(page)]
    subprocess.run(show, check=True, stdout=subprocess.DEVNULL)
    chromium = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
    size = ["--window-size=1100,900", f"--screenshot={PICTURES / 'capsule.png'}"]
    subprocess.run([*chromium, *size, page.as_uri()], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
