"""The documentation site: nox -s docs."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
import _generated_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "core_infra"
author = "the core_infra authors"
version = release = importlib.metadata.version("core-infra")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpick_ignore_regex = [("py:.*", ".*")]  # Sphinx knows no types of other projects here

myst_heading_anchors = 4  # GitHub's names, so that links work in both places
myst_enable_extensions = ["colon_fence"]
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "core_infra"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
highlight_language = "none"
pygments_style = "friendly"
pygments_dark_style = "github-dark"

_OUTSIDE = re.compile(r"\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG)\.md")
_README = re.compile(r"\[([^\]]*)\]\((?:\.\./)+(?:README|SECURITY)\.md[^)]*\)")


def setup(app: Sphinx) -> None:
    """Generate pages, and lead links to files outside this folder to their pages."""
    docs = Path(app.srcdir)
    _generated_pages.write(docs.parent, docs / "generated")
    app.connect("source-read", _lead_inside)


def _lead_inside(_app: Sphinx, page: str, source: list[str]) -> None:
    up = "../" * page.count("/")
    text = _README.sub(r"\1", source[0])
    source[0] = _OUTSIDE.sub(lambda found: f"]({up}generated/{found[1].lower()}.md", text)
