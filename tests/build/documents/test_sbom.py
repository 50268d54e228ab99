from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from core_infra.build._artifact import Artifact
from core_infra.build._documents.sbom import Dependency, dependencies, write_sbom
from core_infra.build._errors import ArtifactError
from core_infra.medium import MemoryMedium

GO_MOD = """\
module example.com/app // with a comment

go 1.22

require github.com/pkg/errors v0.9.1

require (
	golang.org/x/sys v0.1.0 // indirect
	// github.com/gone/away v1.0.0
	github.com/a/b/v2 v2.0.0-20240101000000-abcdef123456
)

replace github.com/x/y v1.0.0 => ../y

exclude github.com/z/z v1.0.0
"""

NPM = {
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "app", "version": "1.0.0"},
        "node_modules/left-pad": {"version": "1.3.0"},
        "node_modules/@a/b/node_modules/c": {"version": "2.0.0"},
        "node_modules/@a/b": {"version": "1.0.0"},
        "node_modules/eslint": {"version": "9.0.0", "dev": True},
        "node_modules/own": {"link": True, "resolved": "packages/own"},
    },
}

COMPOSER = {"packages": [{"name": "a/b", "version": "1.2"}], "packages-dev": [{"name": "c/d"}]}

CARGO = """\
[[package]]
name = "app"
version = "0.1.0"

[[package]]
name = "serde"
version = "1.0.200"
source = "registry+https://github.com/rust-lang/crates.io-index"
"""

UV = """\
[[package]]
name = "app"
version = "0.1.0"
source = { editable = "." }

[[package]]
name = "click"
version = "8.2.0"
source = { registry = "https://example.org/simple" }
"""

REQUIREMENTS = "# what we use\nPy_YAML[libyaml]==6.0.2 ; python_version > '3'\nclick>=8\n-r x.txt\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "go.mod",
            GO_MOD,
            [
                ("golang", "github.com/a/b/v2", "v2.0.0-20240101000000-abcdef123456"),
                ("golang", "github.com/pkg/errors", "v0.9.1"),
                ("golang", "golang.org/x/sys", "v0.1.0"),
            ],
        ),
        (
            "package-lock.json",
            json.dumps(NPM),
            [("npm", "@a/b", "1.0.0"), ("npm", "c", "2.0.0"), ("npm", "left-pad", "1.3.0")],
        ),
        ("composer.lock", json.dumps(COMPOSER), [("composer", "a/b", "1.2")]),
        ("Cargo.lock", CARGO, [("cargo", "serde", "1.0.200")]),
        ("uv.lock", UV, [("pypi", "click", "8.2.0")]),
        ("requirements.txt", REQUIREMENTS, [("pypi", "py-yaml", "6.0.2")]),
    ],
)
def test_each_lock_file_is_read(name: str, text: str, expected: list[tuple[str, str, str]]) -> None:
    medium = MemoryMedium()
    medium.write_text(f"it/{name}", text)
    assert dependencies(medium, "it") == [Dependency(*one) for one in expected]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("package-lock.json", "{"),
        ("package-lock.json", "{}"),
        ("package-lock.json", '{"packages": []}'),
        ("composer.lock", '{"packages": [{}]}'),
        ("Cargo.lock", "["),
        (
            "uv.lock",
            '[[package]]\nname = 3\nversion = "1"\nsource = 3\n[[package]]\nversion = "1"\n',
        ),
    ],
)
def test_a_malformed_lock_file_is_one_error(name: str, text: str) -> None:
    medium = MemoryMedium()
    medium.write_text(f"it/{name}", text)
    with pytest.raises(ArtifactError, match=f"it/{name}"):
        dependencies(medium, "it")


def test_the_bill_of_materials_is_valid_cyclonedx() -> None:
    medium = MemoryMedium()
    medium.write_text("it/go.mod", GO_MOD)
    write_sbom(
        medium,
        "dist/sbom.cdx.json",
        name="app",
        version="1.0",
        artifacts=[Artifact("dist/app.zip", checksum="ab" * 32)],
        dependencies=dependencies(medium, "it"),
        epoch=1_700_000_000,
    )
    text = medium.read_text("dist/sbom.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    data = json.loads(text)
    names = {one["name"]: one for one in data["components"]}
    assert names["sys"]["purl"] == "pkg:golang/golang.org/x/sys@v0.1.0"
    assert names["app.zip"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert data["metadata"]["component"]["name"] == "app"
    assert data["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    inside = {one["ref"]: one.get("dependsOn", []) for one in data["dependencies"]}
    assert len(inside["project"]) == 3
