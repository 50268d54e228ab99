from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from core_infra.jobrunner import FakeClock, Journal, Poller, PollerConfig, RecordedSource
from jobs.postgresql import postgresql, program
from jobs.samples import signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobs.polling import Make


@pytest.fixture(scope="session")
def database_server() -> Iterator[str]:
    if program("postgres") is None:
        pytest.skip("needs PostgreSQL: the package postgresql")
    with postgresql() as address:
        yield address


@pytest.fixture
def database(database_server: str) -> str:
    """The address of an empty database."""
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(database_server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return database_server.replace("dbname=postgres", f"dbname={name}")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(base: Path) -> Iterator[Journal]:
    with Journal(base) as journal:
        yield journal


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source() -> RecordedSource:
    return RecordedSource([signal()])


@pytest.fixture
def make(journal: Journal, source: RecordedSource, clock: FakeClock) -> Iterator[Make]:
    made: list[Poller] = []

    def make(*handlers: Any, sources: Any = None, **options: Any) -> Poller:
        given: dict[str, Any] = {"journal": journal, "clock": clock, "grace_period": 30.0} | options
        poller = Poller(PollerConfig(sources=sources or [source], handlers=handlers, **given))
        made.append(poller)
        return poller

    yield make
    for poller in made:
        poller.close()
