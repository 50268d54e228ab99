"""The packages in artifacts, as the compilers know them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from build_samples import copy_sample, need
from core_infra.build._artifact import host_target
from core_infra.build._documents.contained import contained
from core_infra.build._documents.lock_files.dependency import Dependency
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from oci_images import Entry, layer, write_layout

if TYPE_CHECKING:
    from pathlib import Path

HOST = host_target()


def test_a_go_program_has_the_modules_that_it_uses_and_no_others(tmp_path: Path) -> None:
    need("go")
    files = {
        "app/go.mod": (
            "module x.org/app\n\ngo 1.21\n\n"
            "require (\n\tx.org/lib v1.0.0\n\tx.org/unused v1.0.0\n)\n\n"
            "replace x.org/lib => ../lib\n\nreplace x.org/unused => ../unused\n"
        ),
        "app/main.go": 'package main\n\nimport "x.org/lib"\n\nfunc main() { lib.F() }\n',
        "lib/go.mod": "module x.org/lib\n\ngo 1.21\n",
        "lib/l.go": "package lib\n\nfunc F() {}\n",
        "unused/go.mod": "module x.org/unused\n\ngo 1.21\n",
        "unused/u.go": "package unused\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    plan = make_plan(tmp_path / "app", goal="release", targets=[HOST], version="v1.0.0")
    package = carry_out(plan)
    # The version that go.mod requires is not that of the directory.
    assert contained(plan, package.built) == ([Dependency("golang", "x.org/lib", "")], [])
    sbom = json.loads((package.directory / "sbom.cdx.json").read_text())
    assert [one["name"] for one in sbom["components"] if one["type"] == "library"] == ["lib"]


def test_the_crates_of_a_target_are_those_that_cargo_resolves(tmp_path: Path) -> None:
    need("cargo", "rustc")
    project = copy_sample("rust", tmp_path / "app")
    plan = make_plan(project, targets=[HOST])
    assert contained(plan, ()) == ([], [])


def test_a_release_of_a_linuxkit_image_has_what_the_image_was_made_of(tmp_path: Path) -> None:
    database = b"P:musl\nV:1.2-r0\n"
    digest = write_layout(
        tmp_path / "image",
        [layer([Entry("kernel", data=b"k"), Entry("lib/apk/db/installed", data=database)])],
    )
    project = tmp_path / "app"
    project.mkdir()
    address = f"oci-layout:{tmp_path}/image"
    (project / "linuxkit.yml").write_text(f"kernel: {{image: '{address}'}}\ninit: ['{address}']\n")
    package = carry_out(make_plan(project, goal="release", targets=[HOST], version="v1.0.0"))
    sbom = json.loads((package.directory / "sbom.cdx.json").read_text())
    parts = [(one["name"], one["version"]) for one in sbom["components"] if "purl" in one]
    assert parts == [("musl", "1.2-r0"), ("image", digest)]
    provenance = json.loads((package.directory / "provenance.intoto.json").read_text())
    sources = provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"uri": address, "digest": {"sha256": digest.removeprefix("sha256:")}} in sources
