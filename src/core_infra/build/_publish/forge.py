"""Releases on GitHub and Forgejo: a draft first, published when all its files are there.

Each attempt reads what the forge has, and does what is missing. So a second run, and a repetition
after an answer that did not come, continue where the first one ended.
"""

from __future__ import annotations

import re
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from core_infra.build._errors import PublishError, PublishInterruptedError
from core_infra.build._publish.api_client import ApiClient, described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core_infra.build._publish.files import File, ForgeRelease
    from core_infra.build._secret import Secret

_TRIES = 6
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_GITHUB, _GITHUB_UPLOADS = "https://api.github.com", "https://uploads.github.com"
_MARKED = re.compile(r"<!-- core-infra: [0-9a-f]{64} -->")
_PUBLISHED = {"draft": False}


class Forge:
    """The releases of one repository.

    Args:
        kind: ``github`` or ``forgejo``.
        url: the address of the API (GitHub) or of the server (Forgejo).
        repository: ``OWNER/NAME``.
        token: the token.
        report: called with a line of text for each request that changes something.
    """

    def __init__(
        self,
        kind: str,
        url: str,
        repository: str,
        token: Secret,
        *,
        report: Callable[[str], object],
    ) -> None:
        self._is_github = kind == "github"
        self._url = url.rstrip("/") + ("" if self._is_github else "/api/v1")
        also = _GITHUB_UPLOADS if self._url == _GITHUB else ""
        self._report = report
        self._progress = 0
        self._api = ApiClient(self._url, token, also=also, report=report)
        self._path = f"/repos/{urllib.parse.quote(repository)}"
        self._page = ("per_page", 100) if self._is_github else ("limit", 50)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def draft_requests(self, release: ForgeRelease) -> Iterator[str]:
        """All requests for a draft that is not there yet, as text; none is sent."""
        base = f"{self._url}{self._path}"
        uploads = f"{base.replace(_GITHUB, _GITHUB_UPLOADS)}/releases/ID/assets"
        yield f"GET {base}{self._tag_path(release.tag)}"
        yield f"GET {base}/releases?{self._page[0]}={self._page[1]}&page=1"
        yield described("POST", f"{base}/releases", self._new(release))
        for file in release.files:
            yield f"POST {uploads}?name={file.name} ({file.size} bytes, sha256:{file.sha256})"
        yield f"GET {base}/releases/ID"

    def publish_request(self) -> str:
        """The request that publishes a draft, as text."""
        return described("PATCH", f"{self._url}{self._path}/releases/ID", _PUBLISHED)

    def prepare(self, release: ForgeRelease) -> str:
        """Make a draft with all files, or complete one; return its address.

        Raises:
            PublishError: the tag is missing or another commit's, there is another release of it,
                or the forge refuses.
        """
        return self._repeated(lambda: str(self._prepared(release).get("html_url", "")))

    def publish(self, release: ForgeRelease) -> str:
        """Publish the draft, which :meth:`prepare` has completed; return its address."""

        def attempt() -> str:
            found = self._prepared(release)
            if found.get("draft"):
                path = f"{self._path}/releases/{found['id']}"
                found = self._api.change("PATCH", path, _PUBLISHED) or found
            return str(found.get("html_url", ""))

        return self._repeated(attempt)

    def _prepared(self, release: ForgeRelease) -> dict[str, Any]:
        self._check_tag(release)
        found = self._find(release)
        if found is None:
            found = self._api.change("POST", f"{self._path}/releases", self._new(release))
            self._progress += 1
        elif found.get("draft"):
            self._claim(found, release)
        path = f"{self._path}/releases/{found['id']}"
        if found.get("draft"):
            have = {str(one["name"]): one for one in found.get("assets") or ()}
            for file in release.files:
                if not _is_same(have.get(file.name), file):
                    self._upload(found, have.get(file.name), file)
            found = self._api.get(path) or {}
        self._check_files(found, release)
        return found

    def _check_tag(self, release: ForgeRelease) -> None:
        found = self._api.get(self._path + self._tag_path(release.tag))
        what = f"cannot publish {release.tag} at {self._url}{self._path}"
        if not found:
            raise PublishError(
                what,
                why="it has no such tag, or the token cannot read it",
                todo=f"git push origin {release.tag}",
            )
        commit = found.get("sha") if self._is_github else (found.get("commit") or {}).get("sha")
        if commit != release.commit:
            why = f"the tag there is of commit {commit}, but the release is of {release.commit}"
            raise PublishError(what, why=why)

    def _tag_path(self, tag: str) -> str:
        return f"/{'commits' if self._is_github else 'tags'}/{urllib.parse.quote(tag, safe='')}"

    def _find(self, release: ForgeRelease) -> dict[str, Any] | None:
        """The release of the tag; of several drafts the one of these files."""
        of_tag = []
        for one in self._api.pages(f"{self._path}/releases", self._page):
            if one.get("tag_name") == release.tag:
                if not one.get("draft") or release.mark in (one.get("body") or ""):
                    return dict(one)
                of_tag.append(dict(one))
        return of_tag[0] if of_tag else None

    def _claim(self, found: dict[str, Any], release: ForgeRelease) -> None:
        """Empty a draft of ours that has the files of another build."""
        body = found.get("body") or ""
        if release.mark in body:
            return
        if not _MARKED.search(body):
            raise PublishError(
                f"there is a draft of {release.tag} already: {found.get('html_url')}",
                why="core-infra did not make it, so it is not changed",
                todo="Delete it, or publish it by hand.",
            )
        for asset in found.get("assets") or ():
            self._delete(found, asset)
        found["assets"] = []
        self._api.change("PATCH", f"{self._path}/releases/{found['id']}", release.content)

    def _upload(self, found: dict[str, Any], old: dict[str, Any] | None, file: File) -> None:
        if old is not None:
            self._delete(found, old)
        url = f"{self._url}{self._path}/releases/{found['id']}/assets"
        if self._is_github:
            url = str(found.get("upload_url") or url).partition("{")[0]
        made = self._api.upload(url, file.name, file.path)
        if made and made.get("name") != file.name:
            raise PublishError(
                f"{self._url} has renamed {file.name} to {made.get('name')}",
                why="the checksums would not match the names",
                todo="Choose names of letters, digits and . _ - with archive.name.",
            )
        self._progress += 1

    def _delete(self, found: dict[str, Any], asset: dict[str, Any]) -> None:
        middle = "" if self._is_github else f"/{found['id']}"
        self._api.change("DELETE", f"{self._path}/releases{middle}/assets/{asset['id']}")

    def _check_files(self, found: dict[str, Any], release: ForgeRelease) -> None:
        have = {str(one["name"]): one for one in found.get("assets") or ()}
        wrong = [file.name for file in release.files if not _is_same(have.get(file.name), file)]
        if not wrong:
            return
        if found.get("draft"):
            raise PublishInterruptedError(f"{', '.join(wrong)} did not arrive at {self._url}")
        raise PublishError(
            f"{release.tag} is already published at {found.get('html_url') or self._url}",
            why=f"it does not have these files: {', '.join(wrong)}",
            todo="Delete that release, or release another version.",
        )

    def _new(self, release: ForgeRelease) -> dict[str, object]:
        tag = {"tag_name": release.tag, "target_commitish": release.commit}
        return {**tag, **release.content, "draft": True}

    def _repeated(self, attempt: Callable[[], str]) -> str:
        tries, before = 0, self._progress
        while True:
            try:
                return attempt()
            except PublishInterruptedError as error:
                tries = 1 if self._progress > before else tries + 1
                before = self._progress
                if tries == _TRIES:
                    error.todo = "Run it again later: it continues with what is missing."
                    raise
                wait = max(_FIRST_WAIT * 2.0 ** (tries - 1), error.facts.get("wait", 0.0))
                wait = min(wait, _LONGEST_WAIT)
                self._report(f"{error}; trying again in {wait:g} s")
                time.sleep(wait)


def _is_same(asset: dict[str, Any] | None, file: File) -> bool:
    """Whether a forge has the whole of a file; GitHub has its digest as well."""
    if asset is None or asset.get("state", "uploaded") != "uploaded":
        return False
    digest = asset.get("digest") or f"sha256:{file.sha256}"
    return (asset.get("size"), digest) == (file.size, f"sha256:{file.sha256}")
