"""Where a release comes from and who made it, as URIs."""

from __future__ import annotations

import os
import re
import urllib.parse
from typing import TYPE_CHECKING

from core_infra.build._documents.provenance import Source

if TYPE_CHECKING:
    from core_infra.build._sources.history import History

_LOCAL = "urn:core-infra:local"
"""The builder of a build outside of CI services."""

_WORKFLOW = "WORKFLOW_REF"
_SCP = re.compile(r"(?:[^/@:]+@)?([^/@:]+):(?!//)(.+)")
"""An address in the form that ssh has: git@github.com:me/app.git."""


def sources_uri(name: str) -> str:
    """Identifies the sources of a project."""
    return f"urn:core-infra:sources:{urllib.parse.quote(name, safe='')}"


def commit_source(history: History) -> list[Source]:
    """The commit that something is built of; empty without a repository."""
    if not history.commit:
        return []
    where = _download_location(history.origin)
    reference = f"refs/tags/{history.tag}" if history.exact else history.commit
    uri = f"{where}@{reference}" if where else f"urn:core-infra:commit:{history.commit}"
    return [Source(uri, {"gitCommit": history.commit})]


def builder_id() -> str:
    """Who built it, without the single run: https://slsa.dev/spec/v1.0/provenance#builder.id."""
    server, workflow = (os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", _WORKFLOW))
    if os.environ.get("GITHUB_ACTIONS") == "true" and server:
        return f"{server}/{workflow or os.environ.get('GITHUB_REPOSITORY', '')}"
    if os.environ.get("GITLAB_CI") == "true":  # as GitLab's own provenance
        project, runner = (
            os.environ.get(f"CI_{name}", "") for name in ("PROJECT_URL", "RUNNER_ID")
        )
        return f"{project}/-/runners/{runner}"
    return _LOCAL


def invocation() -> str:
    """The single run; empty outside of CI services."""
    names = ("SERVER_URL", "REPOSITORY", "RUN_ID", "RUN_ATTEMPT")
    server, repository, run, attempt = (os.environ.get(f"GITHUB_{name}", "") for name in names)
    if os.environ.get("GITHUB_ACTIONS") == "true" and run:
        return f"{server}/{repository}/actions/runs/{run}/attempts/{attempt or 1}"
    return os.environ.get("CI_JOB_URL", "")


def _download_location(origin: str) -> str:
    """The address of a remote as ``git+https://…``, without a password; empty for a local one."""
    if match := _SCP.fullmatch(origin):
        origin = f"ssh://{match[1]}/{match[2]}"
    parts = urllib.parse.urlsplit(origin)
    if parts.scheme not in {"https", "http", "ssh", "git"} or not parts.hostname:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"git+{parts.scheme}://{host}{urllib.parse.quote(parts.path, safe='/%')}"
