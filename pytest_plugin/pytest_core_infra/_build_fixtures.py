"""Artifacts: projects that are built for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_core_infra._artifact_builder import ArtifactBuilder

PROJECTS = "core_projects"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting ``core_projects``."""
    parser.addini(
        PROJECTS,
        "where the fixture build_artifacts finds sample projects by name, from the root directory",
        default="fixtures/projects",
    )


@pytest.fixture
def build_artifacts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ArtifactBuilder:
    """Builds projects, archives what came of it and writes its checksums, in this test's own files.
    ``build_artifacts(project, targets=(), *, format=, profile=, type=, name=, version=, twice=)``
    takes a project and platforms (``"linux/arm64"``; by default the project's own) and returns a
    ``Package``: ``artifact("linux/arm64")`` is the archive with its ``path`` and ``checksum``,
    ``program("linux/arm64")`` the path of what is in it, ``directory`` where all is, with
    ``CHECKSUMS.txt``. The project is a sample's name (a directory in ``fixtures/projects``; the
    setting ``core_projects`` names another place), a path, or a tree: ``{"go.mod": "…"}``.
    The same sources are built once, however many tests and workers of pytest-xdist ask for them;
    what is remembered is in the user's cache directory. With ``twice=True`` they are built again in
    another environment, and the test fails with the first member and field that differs.
    A compiler that is missing fails the test, with how to get it.

    Example::

        import subprocess

        from pytest_core_infra._artifact_builder import ArtifactBuilder

        def test_greets(build_artifacts: ArtifactBuilder) -> None:
            package = build_artifacts("go", ["linux/amd64"])
            assert subprocess.check_output([package.program()]).startswith(b"Hello")
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from pytest_core_infra._artifact_builder import ArtifactBuilder  # noqa: PLC0415 - who uses it pays for it

    samples = request.config.rootpath / request.config.getini(PROJECTS)
    return ArtifactBuilder(samples, tmp_path_factory.mktemp("build"))
