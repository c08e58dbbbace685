"""Real servers for every test that wants one: the embedded broker, and one PostgreSQL for the session."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import sqlalchemy as sa

from benchmarks.servers import KafkaServer, PostgresServer, ServerMissing
from pipeline.broker import EmbeddedBroker


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """A fresh embedded broker, with nothing in it."""
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """One Apache Kafka for the session, for tests that kill nothing; each takes a topic prefix of its own."""
    with tempfile.TemporaryDirectory(prefix="ovoz-kafka-") as folder:
        try:
            server = KafkaServer(Path(folder))
        except ServerMissing as error:
            _missing(error)
        server.start()
        yield server.bootstrap
        server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL server for the session; whoever kills it starts it again."""
    with tempfile.TemporaryDirectory(prefix="ovoz-postgres-") as folder:
        server = own_postgres(Path(folder) / "session")
        yield server
        server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(postgres_server.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    yield sa.make_url(postgres_server.url).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, on each database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ovoz.db"
    return str(request.getfixturevalue("postgres_url"))


def own_postgres(folder: Path) -> PostgresServer:
    """A running PostgreSQL that the caller stops; without its programs a skip, under CI a failure."""
    try:
        server = PostgresServer(folder)
    except ServerMissing as error:
        _missing(error)
    server.start()
    return server


def _missing(error: ServerMissing) -> NoReturn:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(str(error))
    pytest.skip(str(error))
