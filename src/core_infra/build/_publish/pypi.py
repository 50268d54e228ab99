"""Uploads Python packages to an index, by twine."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from typing import TYPE_CHECKING

from core_infra.build._errors import PublishError
from core_infra.build._secret import missing_token, read_token
from core_infra.build._signing.tool import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from core_infra.build._publish.files import File

TOKEN = "PYPI_TOKEN"  # noqa: S105 - the name of its variable
_TRUSTED = ("ACTIONS_ID_TOKEN_REQUEST_URL", "PYPI_ID_TOKEN", "TESTPYPI_ID_TOKEN")
"""Variables of CI services that have an identity for PyPI's trusted publishing."""
_OFFICIAL = ("https://upload.pypi.org/", "https://test.pypi.org/")
_CONFLICTS = ("409 Conflict", "already exist")
_SDIST = ".tar.gz"
_TIMEOUT = 1800.0


def packages_of(kinds: Collection[str], files: Sequence[File]) -> list[File]:
    """The files of a release for an index: those of its Python projects.

    Args:
        kinds: the types of all builds of the release.
        files: the files of the release.
    """
    if "python" not in kinds:
        return []
    wheels = [file for file in files if file.name.endswith(".whl")]
    names = {_plain("-".join(file.name.split("-")[:2])) for file in wheels}
    only_python = set(kinds) == {"python"}
    # Archives of other builds have the same extension as a source distribution.
    sources = [
        file
        for file in files
        if file.name.endswith(_SDIST)
        and (only_python or _plain(file.name.removesuffix(_SDIST)) in names)
    ]
    return [file for file in files if file in wheels or file in sources]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def index_problems() -> list[str]:
    """Why nothing can be uploaded to an index, one sentence each."""
    problems = []
    if importlib.util.find_spec("twine") is None:
        problems.append("the package twine is not installed: pip install core-infra[publish]")
    if not _environment():
        problems.append(
            f"{missing_token(TOKEN, 'publish.pypi')}; or, in CI, use PyPI's trusted publishing"
        )
    return problems


def index_requests(url: str, files: Sequence[File]) -> Iterator[str]:
    """The requests of an upload, as text; none is sent."""
    for file in files:
        yield f"POST {url} {file.name} ({file.size} bytes, sha256:{file.sha256})"


def upload_to_index(url: str, files: Sequence[File], *, report: Callable[[str], object]) -> None:
    """Upload packages, one by one; a second run continues.

    PyPI accepts a file again if it is the same, and refuses another one of its name. Other indexes
    refuse both alike, so there a file of the same name counts as uploaded.

    Raises:
        PublishError: the index refuses one.
    """
    argv = [sys.executable, "-P", "-m", "twine", "upload", "--verbose"]
    argv += ["--non-interactive", "--disable-progress-bar"]
    # Neither ~/.pypirc nor its passwords: only what is configured here.
    argv += ["--config-file", os.devnull, "--repository-url", url]
    env = {**_environment(), "NO_COLOR": "1", "COLUMNS": "200"}
    for file, line in zip(files, index_requests(url, files), strict=True):
        report(line)
        ran = run_tool([*argv, str(file.path)], env=env, timeout=_TIMEOUT)
        output = (ran.stdout + ran.stderr).decode(errors="replace").strip()
        has_it = any(text in output for text in _CONFLICTS)
        if ran.exit_code and has_it and not url.startswith(_OFFICIAL):
            report(f"{url} has {file.name} already")
        elif ran.exit_code:
            text = output.replace(env.get("TWINE_PASSWORD") or "\0", "***")
            why = "\n".join(text.splitlines()[-10:])
            raise PublishError(f"{url} did not accept {file.name}", why=why)


def _environment() -> dict[str, str]:
    """The variables for twine; empty without a token."""
    given = {name: os.environ.get(name, "") for name in ("TWINE_USERNAME", "TWINE_PASSWORD")}
    token = read_token(TOKEN)
    if not token and given["TWINE_PASSWORD"]:
        return given
    if token:
        return {"TWINE_USERNAME": "__token__", "TWINE_PASSWORD": token.value}
    return {"TWINE_USERNAME": ""} if any(os.environ.get(name) for name in _TRUSTED) else {}
