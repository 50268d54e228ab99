"""Trees in memory for tests: made from real ones, shown when a test fails, shared with open()."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    project = pytester.mkdir("projects") / "go"
    (project / "empty").mkdir(parents=True)
    (project / "run").write_text("#!/bin/sh\n")
    (project / "run").chmod(0o755)
    (project / "go.mod").write_text("module x\n\ngo 1.22\n")
    (project / "start").symlink_to("run")
    return project


@pytest.mark.usefixtures("project")
def test_each_call_gives_a_copy_of_the_real_directory(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        **{
            "deep/test_it": """
            import os, pathlib

            def test_first(core_medium_from):
                one, other = core_medium_from("projects/go"), core_medium_from("projects/go")
                assert one.list(".") == ["empty", "go.mod", "run", "start"]
                assert one.stat("run").mode == 0o755
                one.write_text("start", "changed")
                one.delete("empty")
                assert one.read_text("run") == "changed"
                assert other.read_text("run") == "#!/bin/sh\\n"

            def test_second(core_medium_from, request, monkeypatch, tmp_path):
                monkeypatch.chdir(tmp_path)
                assert core_medium_from("projects/go").is_dir("empty")
                assert core_medium_from(request.config.rootpath / "projects").is_file("go/run")
            """
        }
    )
    pytester.makeini("[pytest]")
    pytester.runpytest().assert_outcomes(passed=2)


def test_a_directory_is_read_once_in_a_run(pytester: pytest.Pytester, project: Path) -> None:
    pytester.makepyfile(
        f"""
        from pathlib import Path

        def test_first(core_medium_from):
            assert core_medium_from("projects/go").is_file("run")
            (Path({str(project)!r}) / "run").unlink()

        def test_second(core_medium_from):
            assert core_medium_from("projects/../projects/go").is_file("run")
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


@pytest.mark.usefixtures("project")
def test_the_report_of_a_failed_test_shows_what_it_changed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_fails(core_medium_from, core_medium):
            project = core_medium_from("projects/go")
            project.write_text("go.mod", "module x\\n\\ngo 1.23\\n")
            project.write_text("dist/app", "x")
            project.delete("start")
            core_medium.write_text("odd\\x1b[31m", "")
            assert 0

        def test_passes(core_medium):
            core_medium.write_text("of one that passes", "")
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "*- core_medium_from('projects/go'): what changed -*",
            "+ dist/",
            "+ dist/app (1 byte)",
            "~ go.mod (18 → 18 bytes)",
            "    -go 1.22",
            "    +go 1.23",
            "- start -> run",
        ]
    )
    assert "- core_medium: what changed -" in text
    assert "+ odd\\x1b[31m (0 bytes)" in text
    assert "of one that passes" not in text


def test_a_report_stays_readable_when_very_much_changed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def fails_at_the_end(core_medium):
            yield
            core_medium.write_text("late", "")
            raise RuntimeError("late")

        def test_much(core_medium):
            for number in range(300):
                core_medium.write_text(f"f{number:03}", "x")
            core_medium.write_text("a", "before " * 10_000)

        def test_much_and_fails(core_medium):
            core_medium.write_text("mine", "")
            assert 0
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(passed=1, errors=2, failed=1)
    text = result.stdout.str()
    assert "+ f098 (1 byte)" in text
    assert "f099" not in text
    assert "… 202 more lines" in text
    assert text.count("what changed") == 2  # once for each test
    assert text.count("+ mine") == 1


def test_a_missing_directory_is_reported_with_the_searched_places(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_it(core_medium_from): core_medium_from('no/such')")
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"*cannot load '{pytester.path}/no/such': there is no such file or directory",
            f"*A relative path starts at pytest's rootdir, {pytester.path}.",
        ]
    )


@pytest.mark.parametrize(
    "arguments", ["core_medium_fs", "core_medium_fs, fs", "fs, core_medium_fs"]
)
def test_plain_open_sees_what_the_medium_writes(pytester: pytest.Pytester, arguments: str) -> None:
    pytester.makepyfile(
        f"""
        import os, pathlib

        def test_first({arguments}):
            core_medium_fs.write_text("/etc/app.conf", "mine", mode=0o600)
            with open("/etc/app.conf") as file:
                assert file.read() == "mine"
            pathlib.Path("/etc/other").write_text("theirs")
            assert core_medium_fs.read_text("etc/other") == "theirs"
            assert core_medium_fs.list("etc") == ["app.conf", "other"]
            assert os.stat("/etc/app.conf").st_mode & 0o777 == 0o600

        def test_and_afterwards_the_real_disk_is_back(tmp_path):
            from core_infra.medium import LocalMedium

            assert not os.path.exists("/etc/other")
            LocalMedium(tmp_path).write_text("f", "real")
            assert (tmp_path / "f").read_text() == "real"
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ("import sys; sys.modules['pyfakefs'] = None", "pip install core-infra[[]pyfakefs[]]"),
        ("", "*there is no such fixture: pyfakefs' pytest plugin is switched off"),
        (
            "import pytest; fs = pytest.fixture(lambda: 7, name='fs')",
            "*it is a int instead of pyfakefs' file system",
        ),
    ],
)
def test_the_reason_for_not_sharing_is_reported(
    pytester: pytest.Pytester, prepare: str, message: str
) -> None:
    pytester.makeconftest(prepare)
    pytester.makepyfile("def test_it(core_medium_fs): pass")
    result = pytester.runpytest_subprocess("-p", "no:fakefs")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{message}"])


def test_what_works_by_descriptors_refuses_beside_pyfakefs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from core_infra.errors import UnavailableError
        from core_infra.medium._local import LocalMedium
        from core_infra.medium._sandbox import SandboxMedium

        def test_refused(core_medium_fs):
            for make in (LocalMedium, lambda: LocalMedium("/etc"), lambda: SandboxMedium("/")):
                with pytest.raises(UnavailableError, match="beside pyfakefs"):
                    make()

        def test_after(tmp_path):
            LocalMedium(tmp_path).write_text("a", "b")
            assert SandboxMedium(tmp_path).read_text("a") == "b"
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_a_medium_needs_no_machine(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_one(core_medium):
            core_medium.write_text("a", "b")
            assert core_medium.read_text("a") == "b"

        def test_two(core_medium):
            assert not core_medium.exists("a")
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=2)
