"""``core-infra jobs run``, ``once`` and ``dry-run``: run handlers on signals."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal as signals
import sys
import threading
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core_infra._cli.jobs.group import pass_config
from core_infra.errors import InvalidError
from core_infra.framework._bus import Bus
from core_infra.jobrunner._config import PollerConfig
from core_infra.jobrunner._from_config import make_parts
from core_infra.jobrunner._journal.journal import Journal
from core_infra.jobrunner._poller import Poller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner._config import CycleReport
    from core_infra.jobrunner._config_file import JobsConfig

_LOG = logging.getLogger(__name__)


@click.command()
@click.option(
    "--metrics-port", type=int, help="Serve Prometheus metrics at this port of localhost."
)
@pass_config
def run(config: JobsConfig, metrics_port: int | None) -> None:
    """Poll and act until stopped by SIGTERM or Ctrl-C."""
    bus = Bus()
    if metrics_port is not None:
        from core_infra.jobrunner._metrics import Metrics  # noqa: PLC0415 - needs an extra

        _LOG.info("metrics at %s", Metrics(bus).serve(metrics_port))
    with _poller(config, dry_run=config.dry_run, bus=bus) as poller:
        # A signal handler may run while the main thread holds a lock that stop() needs. So the
        # handler only leaves a note, and the main thread only waits for notes.
        notes: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in (signals.SIGTERM, signals.SIGINT):
            signals.signal(number, lambda *_: notes.put("stop"))

        def work() -> None:
            try:
                poller.run()
            finally:
                notes.put("ended")

        thread = threading.Thread(target=work)
        thread.start()
        notes.get()
        poller.stop()
        thread.join()


@click.command()
@pass_config
def once(config: JobsConfig) -> None:
    """Run one cycle. The exit code is 1 if a source or an action failed."""
    with _poller(config, dry_run=config.dry_run) as poller:
        _show(poller.run_once())


@click.command("dry-run")
@pass_config
def dry_run(config: JobsConfig) -> None:
    """Print what the next cycle would do."""
    with _poller(config, dry_run=True) as poller:
        _show(poller.run_once())


@contextlib.contextmanager
def _poller(config: JobsConfig, *, dry_run: bool, bus: Bus | None = None) -> Iterator[Poller]:
    sources, handlers = make_parts(config)
    if not sources or not handlers:
        missing = "handlers" if sources else "sources" if handlers else "sources and no handlers"
        raise InvalidError(
            "there is nothing to do",
            why=f"the configuration has no {missing}",
            todo="docs/jobrunner.md shows how to write it.",
        )
    with (
        Journal(config.journal) as journal,
        Poller(
            PollerConfig(
                sources,
                handlers,
                journal,
                poll_interval=config.poll_interval,
                dry_run=dry_run,
                dry_run_handlers=config.dry_run_handlers,
                workers=config.workers,
                poll_timeout=config.poll_timeout,
                job_timeout=config.job_timeout,
                attempts=config.attempts,
                bus=bus,
            )
        ) as poller,
    ):
        yield poller


def _show(done: CycleReport) -> None:
    table = Table("handler", "item", "outcome", box=None)
    for job, steps, error in done.rehearsals:
        for step in steps or [error or "nothing"]:
            table.add_row(*map(Text, (job.action, job.signal.item, f"would: {step}")))
    failed = bool(done.failures)  # they are in the log
    for result in done.results:
        failed |= not result.success
        outcome = Text("done", "green") if result.success else Text(result.error, "red")
        table.add_row(Text(result.action), Text(result.item), outcome)
    Console().print(table)
    click.echo(f"{done.signals} signals, {len(done.results)} actions")
    if failed:
        sys.exit(1)
