"""The pages of the site that are made of others: of the code, and of files outside this folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PACKAGES = ("vm", "process", "build", "jobrunner", "medium", "framework", "testing")
_MODULES = ("core_infra.errors", "core_infra.sessions", "pytest_core_infra.plugin")

_PACKAGE = """\
# {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
{options}```
"""
_OUTSIDE = {"CHANGELOG": "changelog", "CONTRIBUTING": "contributing"}
_COMMANDS = """\
# Commands

```{eval-rst}
.. click:: core_infra._cli.main:main
   :prog: core-infra
   :nested: full
```
"""


def write(root: Path, directory: Path) -> None:
    """Write the pages into a directory; a page that has not changed keeps its time.

    Args:
        root: the root of the repository.
        directory: for the pages.
    """
    pages = {
        f"core_infra.{name}": _PACKAGE.format(
            name=f"core_infra.{name}", options="   :imported-members:\n"
        )
        for name in _PACKAGES
    }
    pages |= {name: _PACKAGE.format(name=name, options="") for name in _MODULES}
    pages["commands"] = _COMMANDS
    for name, page in _OUTSIDE.items():
        pages[page] = _moved((root / f"{name}.md").read_text())
    directory.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = directory / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _moved(text: str) -> str:
    """A text of the root, with links as they are in the directory of the pages."""
    text = text.replace("](docs/", "](../").replace("](CHANGELOG.md", "](changelog.md")
    return re.sub(r"\[([^\]]*)\]\((?:LICENSE|changes/[^)]*)\)", r"\1", text)
