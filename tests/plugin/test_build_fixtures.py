"""The fixture build_artifacts, as a user's tests see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build_samples import SAMPLES, need

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path / "cache"))


def test_samples_paths_and_trees_become_artifacts(pytester: pytest.Pytester) -> None:
    need("task")
    pytester.makeini(f"[pytest]\ncore_projects = {SAMPLES}\n")
    pytester.makepyfile(
        f"""
        import subprocess
        import pytest
        from pathlib import Path
        from core_infra.errors import NotFoundError

        TASK = 'version: "3"\\ntasks:\\n  build:\\n    cmds: [cp tool $OUTPUT_DIR/tool]\\n'

        def test_sample(build_artifacts, tmp_path):
            package = build_artifacts("taskfile", ["linux/arm64"], version="v5")
            said = subprocess.check_output([package.program("linux/arm64")], text=True)
            assert said.endswith("v5 for linux/arm64\\n")
            subprocess.check_call(["sha256sum", "-c", "CHECKSUMS.txt"], cwd=package.directory)
            assert package.artifact().path.endswith("taskfile_linux_arm64.tar.gz")

        def test_path(build_artifacts):
            first = build_artifacts(Path({str(SAMPLES / "taskfile")!r}), format="zip")
            second = build_artifacts({str(SAMPLES / "taskfile")!r}, format="zip")
            assert first.directory != second.directory
            assert first.artifact().path.endswith(".zip")

        def test_tree(build_artifacts):
            files = {{"Taskfile.yml": TASK, "tool": "#!/bin/sh\\necho hi\\n"}}
            package = build_artifacts(files, name="tool", twice=True)
            assert subprocess.check_output([package.program()]) == b"hi\\n"

        def test_no_such_sample(build_artifacts):
            with pytest.raises(NotFoundError, match="there is no sample project 'nothing'"):
                build_artifacts("nothing")
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=4)


def test_workers_share_one_build(pytester: pytest.Pytester, tmp_path: Path) -> None:
    need("task")
    pytester.makepyfile(
        f"""
        import pytest

        CMDS = '["echo x >> {tmp_path}/builds", "touch $OUTPUT_DIR/tool"]'
        TASK = f'version: "3"\\ntasks:\\n  build:\\n    cmds: {{CMDS}}\\n'

        @pytest.mark.parametrize("number", range(6))
        def test_build(build_artifacts, number):
            assert build_artifacts({{"Taskfile.yml": TASK}}, name="tool").program().exists()
        """
    )
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=6)
    assert (tmp_path / "builds").read_text() == "x\n"


def test_a_build_that_fails_fails_the_test_with_what_was_said(pytester: pytest.Pytester) -> None:
    need("task")
    pytester.makepyfile(
        """
        def test_build(build_artifacts):
            task = 'version: "3"\\ntasks:\\n  build:\\n    cmds: [echo no such luck, exit 3]\\n'
            build_artifacts({"Taskfile.yml": task})
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*BuildFailedError*", "*no such luck*"])
