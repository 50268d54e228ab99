"""The documentation: what it imports is public, what it links to and names exists."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PUBLIC = {
    *(
        f"core_infra.{name}"
        for name in ("build", "framework", "jobrunner", "medium", "process", "testing", "vm")
    ),
    "core_infra",
    "core_infra.errors",
    "core_infra.sessions",
    "pytest_core_infra.plugin",
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """GitHub's names for the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in headings}


@each_page
def test_python_blocks_are_python(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@each_page
def test_imports_are_public(page: Path) -> None:
    found = re.findall(r"from (\w*core_infra[\w.]*) import \(?([\w, ]+)", page.read_text())
    for module, names in found:
        assert module in PUBLIC, module
        exporter = importlib.import_module(module)
        exported = getattr(exporter, "__all__", dir(exporter))
        for name in names.replace(" ", "").strip(",").split(","):
            assert name in exported or f"{module}.{name}" in PUBLIC, f"{module}.{name}"


@each_page
def test_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "docs/decisions.md"])
def test_files_that_are_named_exist(name: str) -> None:
    places = [ROOT, ROOT / "src/core_infra"]
    for path in re.findall(r"`([\w/]+/[\w/]+\.(?:py|c))`", (ROOT / name).read_text()):
        assert any((place / path).is_file() for place in places), path
