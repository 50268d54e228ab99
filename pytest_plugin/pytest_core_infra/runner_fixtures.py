"""Tasks with dependencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from core_infra.process.runner import Runner
    from core_infra.process.service import Service


@pytest.fixture
def core_runner(core_process: Service) -> Runner:
    """Runs specs by their dependencies, as processes of this test's own ``core_process``.
    ``run_all(specs)`` starts each the moment that what it comes after has passed;
    ``run_sequential(specs)`` goes in the order given and stops at the first failure;
    ``run_parallel(specs)`` starts all. The result has ``success``, ``passed``, ``failed``,
    ``skipped`` and, by name, what came of each: ``result["build"].output``.

    Example::

        from core_infra.process.runner import Runner, RunSpec

        def test_build(core_runner: Runner) -> None:
            result = core_runner.run_all([
                RunSpec("build", "make"),
                RunSpec("test", "./test.sh", after=["build"], timeout=60),
            ])
            assert result.success
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from core_infra.process.runner import Runner  # noqa: PLC0415 - who uses it pays for it

    return Runner(core_process)
