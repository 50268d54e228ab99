from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from core_infra.build._artifact import Artifact
from core_infra.build._documents.lock_files.dependency import Dependency
from core_infra.build._documents.lock_files.read import dependencies, unread
from core_infra.build._documents.sbom import write_sbom
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

COMPILED = """\
a==1
    # via app (pyproject.toml)
b[x]==2
    # via
    #   -r requirements.in
    #   a
c==3  # comment
    # via b
pytest==8
    # via -r dev.in
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


def lock(version: int, **packages: object) -> str:
    return json.dumps({"lockfileVersion": version, "packages": packages})


A = ("npm", "a", "1.0.0")
PACKAGE = json.dumps({"dependencies": {"a": "^1.0.0"}, "devDependencies": {"d": "^3.0.0"}})
YARN = """# yarn lockfile v1

"a@^1.0.0", a@~1.0:
  version "1.0.0"
  dependencies:
    "@s/b" "^2.0.0"

"@s/b@^2.0.0":
  version "2.1.0"

d@^3.0.0:
  version "3.0.0"
"""
BERRY = """__metadata:
  version: 8

"a@npm:^1.0.0":
  version: 1.0.0
  resolution: "a@npm:1.0.0"
  dependencies:
    "@s/b": "npm:^2.0.0"
  languageName: node

"@s/b@npm:^2.0.0":
  version: 2.1.0

"d@npm:^3.0.0":
  version: 3.0.0

"app@workspace:.":
  version: 0.0.0-use.local
"""
PNPM_9 = """lockfileVersion: '9.0'
importers:
  .:
    dependencies: {a: {specifier: ^1.0.0, version: 1.0.0(p@1.0.0)}}
    devDependencies: {d: {specifier: ^3.0.0, version: 3.0.0}}
packages:
  a@1.0.0: {}
  d@3.0.0: {}
snapshots:
  a@1.0.0(p@1.0.0): {dependencies: {'@s/b': 2.1.0}}
  '@s/b@2.1.0': {}
  d@3.0.0: {}
"""
PNPM_5 = """lockfileVersion: 5.4
dependencies: {a: 1.0.0}
devDependencies: {d: 3.0.0}
packages:
  /a/1.0.0: {dev: false, dependencies: {'@s/b': 2.1.0}}
  /@s/b/2.1.0: {dev: false}
  /d/3.0.0: {dev: true}
"""
BUN = """{
  // a comment
  "lockfileVersion": 1,
  "workspaces": {"": {"dependencies": {"a": "^1.0.0"}, "devDependencies": {"d": "^3.0.0"}}},
  "packages": {
    "a": ["a@1.0.0", "", {"dependencies": {"@s/b": "^2.0.0"}}, "sha512-//x=="],
    "@s/b": ["@s/b@2.1.0", "", {}, "sha512-x"],
    "d": ["d@3.0.0", "", {}, "sha512-x"],
  },
}
"""
B = ("npm", "@s/b", "2.1.0")
UV_DEV = """version = 1
[[package]]
name = "me"
version = "1"
source = {editable = "."}
dependencies = [{name = "Click"}]
[package.dev-dependencies]
dev = [{name = "pytest"}]
[[package]]
name = "click"
version = "8"
source = {registry = "x"}
dependencies = [{name = "colorama"}]
[[package]]
name = "colorama"
version = "1"
source = {registry = "x"}
[[package]]
name = "pytest"
version = "9"
source = {registry = "x"}
"""
POETRY = '[[package]]\nname = "a"\nversion = "1"\n%s\n[[package]]\nname = "b"\nversion = "2"\n%s\n'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"go.mod": "require g.org/a v1.0.0\nreplace g.org/a => g.org/fork v1.9.9\n"},
            [("golang", "g.org/fork", "v1.9.9")],
        ),
        (
            {"go.mod": "require (\n g.org/a v1.0.0\n)\nreplace (\n g.org/a v1.0.0 => ../a\n)\n"},
            [("golang", "g.org/a", "")],
        ),
        (
            {"package-lock.json": json.dumps({"dependencies": {"a": {"version": "1.0.0"}}})},
            [A],
        ),
        ({"npm-shrinkwrap.json": lock(3, **{"node_modules/a": {"version": "1.0.0"}})}, [A]),
        (
            {
                "package-lock.json": lock(
                    3,
                    **{
                        "packages/own": {"version": "1.0.0"},
                        "node_modules/x": {"name": "a", "version": "1.0.0"},
                    },
                )
            },
            [A],
        ),
        ({"package.json": PACKAGE, "yarn.lock": YARN}, [B, A]),
        ({"package.json": "{}", "yarn.lock": YARN}, [B, A, ("npm", "d", "3.0.0")]),
        ({"package.json": PACKAGE, "yarn.lock": BERRY}, [B, A]),
        ({"pnpm-lock.yaml": PNPM_9}, [B, A]),
        ({"pnpm-lock.yaml": PNPM_5}, [B, A]),
        ({"pnpm-lock.yaml": "lockfileVersion: '9.0'\npackages:\n  a@1.0.0: {}\n"}, [A]),
        ({"bun.lock": BUN}, [B, A]),
        ({"wails.json": "", "frontend/yarn.lock": 'a@^1:\n  version "1.0.0"\n'}, [A]),
        (
            {
                "requirements.txt": "-r base.txt\nDjango == 4.2\nf===1 \\\n --hash=x\n",
                "base.txt": "b==2",
            },
            [("pypi", "b", "2"), ("pypi", "django", "4.2"), ("pypi", "f", "1")],
        ),
        (
            {"requirements.txt": COMPILED, "pyproject.toml": "[project]\ndependencies = ['A>1']\n"},
            [("pypi", "a", "1"), ("pypi", "b", "2"), ("pypi", "c", "3")],
        ),
        ({"requirements.txt": COMPILED, "pyproject.toml": "[project]\nname = 'x'\n"}, []),
        (
            {"requirements.txt": "a==1", "pyproject.toml": "[project]\ndynamic=['dependencies']"},
            [("pypi", "a", "1")],
        ),
        ({"uv.lock": UV_DEV}, [("pypi", "click", "8"), ("pypi", "colorama", "1")]),
        (
            {"poetry.lock": POETRY % ('groups = ["main"]', 'groups = ["dev"]')},
            [("pypi", "a", "1")],
        ),
        ({"poetry.lock": POETRY % ("", 'category = "dev"')}, [("pypi", "a", "1")]),
        (
            {
                "poetry.lock": POETRY % ("", ""),
                "pyproject.toml": "[tool.poetry.dependencies]\npython = '^3'\na = '^1'\n",
            },
            [("pypi", "a", "1")],
        ),
        ({"pdm.lock": POETRY % ("", 'groups = ["dev"]')}, [("pypi", "a", "1")]),
        (
            {"pylock.toml": 'lock-version = "1.0"\n[[packages]]\nname = "A_b"\nversion = "1"\n'},
            [("pypi", "a-b", "1")],
        ),
        (
            {
                "Pipfile.lock": json.dumps(
                    {"default": {"a": {"version": "==1"}}, "develop": {"b": {}}}
                )
            },
            [("pypi", "a", "1")],
        ),
    ],
)
def test_what_is_shipped_is_listed_and_what_developers_use_is_not(
    files: dict[str, str], expected: list[tuple[str, str, str]]
) -> None:
    medium = MemoryMedium()
    for name, text in files.items():
        medium.ensure_dir(f"it/{name}".rpartition("/")[0])
        medium.write_text(f"it/{name}", text)
    assert [tuple(one) for one in dependencies(medium, "it")] == expected


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"vcpkg.json": "{}"}, "vcpkg.json"),
        ({"CMakeLists.txt": "include(FetchContent)\nFetchContent_Declare(fmt)\n"}, "fetches"),
        ({"package.json": '{"dependencies": {"a": "1"}}'}, "no lock file"),
        ({"pyproject.toml": "[project]\ndependencies = ['a']\n"}, "a not in a lock file"),
        ({"requirements.txt": "a\nb==1\nc>=2"}, "a, c not pinned"),
    ],
)
def test_what_cannot_be_read_is_said(files: dict[str, str], why: str) -> None:
    medium = MemoryMedium()
    medium.ensure_dir("it")
    for name, text in files.items():
        medium.write_text(f"it/{name}", text)
    (found,) = unread(medium, "it")
    assert why in found
    options = {"name": "app", "version": "1", "epoch": 0, "unread": [found]}
    write_sbom(medium, "it/sbom", **options)  # type: ignore[arg-type]  # one dict for all
    metadata = json.loads(medium.read_text("it/sbom"))["metadata"]
    assert metadata["properties"] == [{"name": "core-infra:unread", "value": found}]
    JsonStrictValidator(SchemaVersion.V1_6).validate_str(medium.read_text("it/sbom"))
