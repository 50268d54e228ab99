"""``core-infra jobs run``, ``once`` and ``dry-run``: run handlers on signals."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal as signals
import sys
import threading
import time
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from core_infra._cli.jobs.group import ConfigChoice, pass_config, pass_source, print_table
from core_infra._wording import count
from core_infra.errors import CoreInfraError, InvalidError, UnavailableError
from core_infra.framework._bus import Bus
from core_infra.jobrunner._config.parts import close_parts, has_patterns, make_parts, open_journal
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._poller import Poller
from core_infra.jobrunner._poller_config import PollerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner._config.settings import JobsConfig
    from core_infra.jobrunner._cycle_state import CycleReport
    from core_infra.jobrunner._operations import OperationsServer

_LOG = logging.getLogger(__name__)
_LOOK = 1.0
"""Seconds between two looks at the file."""
_DISCOVER = 3600.0
"""Seconds between two looks for new repositories."""


@click.command()
@click.option(
    "--metrics-port", type=int, help="Serve at this port of localhost, and require metrics."
)
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    help="Serve /health, /ready, /metrics, the report at /, and webhooks at /hook.",
)
@pass_source
def run(source: ConfigChoice, metrics_port: int | None, listen: str | None) -> None:
    """Poll and act until stopped by SIGTERM or Ctrl-C.

    The configuration is read again on SIGHUP and when the file changes. If it has mistakes then,
    they are logged, and the bot goes on with what it has.
    """
    bus = Bus()
    # A signal handler may run while the main thread holds a lock that stop() needs. So the handler
    # only leaves a note, and the main thread only waits for notes.
    notes: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signals.SIGTERM, signals.SIGINT):
        signals.signal(number, lambda *_: notes.put("stop"))
    signals.signal(signals.SIGHUP, lambda *_: notes.put("reload"))
    config = source.load()
    with contextlib.ExitStack() as stack:
        server = None
        if metrics_port is not None or listen is not None:
            server = stack.enter_context(_server(config, bus, metrics_port, listen))
            _LOG.info("metrics at %s/metrics", server.url)
        while _run_until_note(config, bus, notes, server, source):
            config = source.reloaded(config)
            _LOG.info("the configuration was read again")


def _server(
    config: JobsConfig, bus: Bus, metrics_port: int | None, listen: str | None
) -> OperationsServer:
    from core_infra.jobrunner._forges.endpoint import Token  # noqa: PLC0415 - not for once
    from core_infra.jobrunner._operations import OperationsServer  # noqa: PLC0415 - as above

    address, _, port = (listen or f"127.0.0.1:{metrics_port}").rpartition(":")
    if not port.isdecimal() or not address:
        raise InvalidError(f"cannot listen at {listen!r}", todo="Give ADDRESS:PORT.")
    text = None
    try:
        from core_infra.jobrunner._metrics import Metrics  # noqa: PLC0415 - needs an extra

        text = Metrics(bus).text
    except UnavailableError:
        if metrics_port is not None:
            raise
    secret = None
    if config.webhook_secret_env or config.webhook_secret_file:
        secret = Token(env=config.webhook_secret_env, file=config.webhook_secret_file)
    return OperationsServer(address.strip("[]"), int(port), metrics=text, secret=secret)


def _run_until_note(
    config: JobsConfig,
    bus: Bus,
    notes: queue.SimpleQueue[str],
    server: OperationsServer | None,
    source: ConfigChoice,
) -> bool:
    """Run a poller; return whether the configuration is to be read again."""
    with _poller(config, dry_run=config.dry_run, bus=bus) as poller:

        def work() -> None:
            try:
                poller.run()
            finally:
                notes.put("ended")

        if server is not None:
            server.poller = poller
        thread = threading.Thread(target=work)
        thread.start()
        note = _next_note(notes, source, config)
        poller.stop()
        thread.join()
        if note == "reload":
            notes.get()  # "ended"
    return note == "reload"


def _next_note(notes: queue.SimpleQueue[str], source: ConfigChoice, config: JobsConfig) -> str:
    """Wait for a note that counts: a reload only if the file can be used."""
    state = source.state()
    again = time.monotonic() + _DISCOVER if has_patterns(config) else float("inf")
    while True:
        try:
            note = notes.get(timeout=_LOOK)
        except queue.Empty:
            if source.state() == state and time.monotonic() < again:
                continue
            note = "reload"
        if note != "reload":
            return note
        state = source.state()
        again = time.monotonic() + _DISCOVER if has_patterns(config) else float("inf")
        try:
            close_parts(make_parts(source.load())[0])
        except CoreInfraError as error:
            _LOG.error("the configuration is not used: %s", describe_error(error))
            continue
        return note


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
        open_journal(config) as journal,
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
                journal_bodies=config.journal_bodies,
                bus=bus,
            )
        ) as poller,
    ):
        try:
            yield poller
        finally:
            close_parts(sources)


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
    print_table(table)
    signals, actions = count(done.signals, "signal"), count(len(done.results), "action")
    click.echo(f"{signals}, {actions}")
    if failed:
        sys.exit(1)
