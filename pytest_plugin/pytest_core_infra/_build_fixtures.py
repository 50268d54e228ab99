"""The fixture ``build_artifacts``: projects that are built for tests."""

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
        "the directory of sample projects of the fixture build_artifacts, from the root directory",
        default="fixtures/projects",
    )


@pytest.fixture
def build_artifacts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ArtifactBuilder:
    """Builds projects, archives the artifacts and writes checksums, in a directory of this test.
    ``build_artifacts(project, targets=(), *, format=, profile=, type=, name=, version=, twice=)``
    takes a project and platforms (``"linux/arm64"``; by default the project's) and returns a
    ``BuildResult``: ``artifact("linux/arm64")`` is the archive with its ``path`` and ``checksum``,
    ``program("linux/arm64")`` the path of the program in it, ``directory`` the directory with all
    files and ``CHECKSUMS.txt``. The project is the name of a sample (a directory in
    ``fixtures/projects``, or in the setting ``core_projects``), a path, or a dict of files:
    ``{"go.mod": "…"}``. The same sources are built once for all tests and workers of pytest-xdist;
    the result is cached in the user's cache directory. With ``twice=True`` they are built again in
    a different environment, and the test fails with the first member and field that differs.
    If a compiler is missing, the test fails and says how to install it.

    Example::

        import subprocess

        from pytest_core_infra.plugin import ArtifactBuilder

        def test_greets(build_artifacts: ArtifactBuilder) -> None:
            package = build_artifacts("go", ["linux/amd64"])
            assert subprocess.check_output([package.program()]).startswith(b"Hello")
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    from pytest_core_infra._artifact_builder import ArtifactBuilder  # noqa: PLC0415 - imported only if it is used

    samples = request.config.rootpath / request.config.getini(PROJECTS)
    return ArtifactBuilder(samples, tmp_path_factory.mktemp("build"))
