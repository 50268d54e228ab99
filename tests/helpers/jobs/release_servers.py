"""The releases of GitHub and Forgejo on this host, by the forges' published descriptions."""

from __future__ import annotations

import hashlib
from typing import Any

from jobs.api_server import NOW, ApiServer, Description, Reply, Request, moment

REPOSITORY = "/repos/acme/app"
TOKEN = "t0ken-of-acme"  # noqa: S105 - of a server in a test


class ReleaseServer(ApiServer):
    """The releases of one repository, acme/app.

    Attributes:
        tags: the commits of its tags.
        releases: by number; their assets are files by name.
        uploads: the names of all assets that were uploaded, in order.
        lost: how many assets to break off in the middle of their upload.
    """

    tag_path = "tags"
    file_key = "id"

    def __init__(self, description: str) -> None:
        super().__init__()
        self.description = Description(description)
        self.tags: dict[str, str] = {}
        self.releases: dict[int, dict[str, Any]] = {}
        self.files: dict[int, tuple[int, str, bytes]] = {}
        self.uploads: list[str] = []
        self.lost = 0
        self.count = 0

    def published(self) -> dict[str, dict[str, bytes]]:
        """The files of all releases that are not drafts, by tag."""
        return {
            release["tag_name"]: self.assets(number)
            for number, release in self.releases.items()
            if not release["draft"]
        }

    def assets(self, number: int) -> dict[str, bytes]:
        return {name: data for owner, name, data in self.files.values() if owner == number}

    def answer(self, request: Request, path: str) -> Reply:  # noqa: PLR0911
        if request.headers.get("authorization") not in {f"Bearer {TOKEN}", f"token {TOKEN}"}:
            return Reply(401, {"message": "Bad credentials"})
        parts = path.removeprefix(f"{REPOSITORY}/").split("/")
        match request.method, parts:
            case "GET", [self.tag_path, tag]:
                sha = self.tags.get(tag)
                return Reply(200, self.tag(tag, sha)) if sha else Reply(404, {"message": "no"})
            case "GET", ["releases"]:
                return Reply(200, [self.release(one) for one in sorted(self.releases)[::-1]])
            case "POST", ["releases"]:
                number = self.next()
                self.releases[number] = {"name": "", "body": "", **request.content}
                return Reply(201, self.release(number))
            case "GET", ["releases", number]:
                return Reply(200, self.release(int(number)))
            case "PATCH", ["releases", number]:
                self.releases[int(number)] |= request.content
                return Reply(200, self.release(int(number)))
            case "POST", ["releases", number, "assets"]:
                return self.upload(int(number), request.query["name"], request.content or b"")
            case "DELETE", [*_, asset]:
                del self.files[int(asset)]
                return Reply(204)
        return Reply(404, {"message": "Not Found"})

    def upload(self, number: int, name: str, data: bytes) -> Reply:
        self.uploads.append(name)
        if name in self.assets(number):
            return Reply(422, {"message": "already_exists"})
        if self.lost:
            self.lost -= 1
            self.files[self.next()] = (number, name, data[:3])
            return Reply(502, {"message": "Bad Gateway"})
        key = self.next()
        self.files[key] = (number, name, data)
        return Reply(201, self.asset(key))

    def next(self) -> int:
        self.count += 1
        return self.count

    def release(self, number: int) -> dict[str, Any]:
        mine = self.releases[number]
        assets = [self.asset(key) for key, (owner, _, _) in self.files.items() if owner == number]
        return {
            **self.example({"$ref": f"#/definitions/{self.names[0]}"}),
            **mine,
            "id": number,
            "html_url": f"{self.url}/acme/app/releases/{number}",
            "assets": assets,
        }

    names = ("Release", "Attachment", "Tag")

    def asset(self, key: int) -> dict[str, Any]:
        _, name, data = self.files[key]
        found = self.example({"$ref": f"#/definitions/{self.names[1]}"})
        return {**found, "id": key, "name": name, "size": len(data)}

    def tag(self, name: str, sha: str) -> dict[str, Any]:
        return {"name": name, "commit": {"sha": sha}}

    def example(self, schema: dict[str, Any]) -> Any:
        """The smallest value that a schema allows."""
        if "$ref" in schema:
            schema = self.description.definitions[schema["$ref"].rpartition("/")[2]]
        for choices in (schema.get("anyOf"), schema.get("oneOf"), schema.get("allOf")):
            if choices:
                return self.example(choices[0])
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type", "object")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            known = schema.get("properties", {})
            return {name: self.example(known[name]) for name in schema.get("required", ())}
        if schema.get("format") == "date-time":
            return moment(NOW)
        return {"string": "x", "integer": 1, "number": 1, "boolean": False, "array": []}.get(kind)


class GitHubReleases(ReleaseServer):
    """GitHub: it has digests of assets, and knows commits by the names of their tags."""

    tag_path = "commits"
    names = ("release", "release-asset", "commit")

    def __init__(self) -> None:
        super().__init__("github-releases.json")

    def release(self, number: int) -> dict[str, Any]:
        upload = f"{self.url}{REPOSITORY}/releases/{number}/assets{{?name,label}}"
        return {**super().release(number), "upload_url": upload}

    def asset(self, key: int) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(self.files[key][2]).hexdigest()}"
        return {**super().asset(key), "state": "uploaded", "digest": digest}

    def tag(self, name: str, sha: str) -> dict[str, Any]:
        del name
        return {**self.example({"$ref": "#/definitions/commit"}), "sha": sha}


class ForgejoReleases(ReleaseServer):
    """Forgejo: it has no digests."""

    prefix = "/api/v1"
    page = 50
    page_parameter = "limit"

    def __init__(self) -> None:
        super().__init__("forgejo-releases.json")
