"""Build artifacts under test: what users download, built twice and compared. No machine."""

import shutil
import tarfile

import pytest

from pytest_core_infra.plugin import ArtifactBuilder

GO = {
    "go.mod": "module example.org/greet\n\ngo 1.21\n",
    "main.go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("Hello") }\n',
    "LICENSE": "Do what you like.\n",
}


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_the_archive_has_the_program_and_the_licence(build_artifacts: ArtifactBuilder) -> None:
    pytest.importorskip("isal", reason="needs core-infra[build]")
    result = build_artifacts(GO, ["linux/arm64"], name="greet", version="1.0.0", twice=True)
    with tarfile.open(result.artifact("linux/arm64").path) as archive:
        assert sorted(archive.getnames()) == ["LICENSE", "greet"]
