"""Opening the store: SQLite (WAL) or PostgreSQL, and bringing its schema up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite

BUSY_TIMEOUT_S: Final = 30
WAL_BYTES: Final = 16_000_000
UPGRADE_LOCK: Final = 0x4F564F5A
POSTGRES_OPTIONS: Final = (
    "statement_timeout=60000",
    # A process that is paused, or whose machine is gone, in the middle of a transaction must not keep its locks.
    "idle_in_transaction_session_timeout=15000",
)
"""Of each session, in milliseconds."""


class StoreError(RuntimeError):
    """The store cannot be used as it is; says why and what to do."""


class StoreAway(RuntimeError):
    """The database does not answer, is locked, or its disk is full: the same call may succeed later."""


def connect(url: str) -> sa.Engine:
    """An engine for the store's URL; connects on first use. Raises StoreError for an unusable URL."""
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StoreError(f"store url {url!r} is not a database URL: write sqlite:///FILE") from error
    if address.get_backend_name() == "sqlite":
        if address.database in (None, "", ":memory:"):
            raise StoreError("the store must be a file that several processes share: write sqlite:///FILE")
        Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(address, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
        return engine
    if address.get_backend_name() == "postgresql":
        try:
            return sa.create_engine(
                address.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                connect_args={"connect_timeout": 5, "options": " ".join(f"-c {one}" for one in POSTGRES_OPTIONS)},
            )
        except ModuleNotFoundError as error:
            raise StoreError("PostgreSQL needs the psycopg driver: pip install 'ovoz[postgres]'") from error
    raise StoreError(f"store url {address.render_as_string()!r}: only sqlite and postgresql are supported")


def insert(connection: sa.Connection) -> Callable[[sa.Table], Any]:
    """The dialect's INSERT, the one that knows ON CONFLICT."""
    return insert_of(connection.dialect.name)


def insert_of(dialect: str) -> Callable[[sa.Table], Any]:
    """The same by the dialect's name."""
    return sqlite.insert if dialect == "sqlite" else postgresql.insert


def upgrade(engine: sa.Engine) -> tuple[str | None, str]:
    """Bring the schema to this version of Ovoz: (revision before, revision now). Safe to run at once twice."""
    config = _alembic()
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        before = MigrationContext.configure(connection).get_current_revision()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        after = MigrationContext.configure(connection).get_current_revision()
    if after is None:
        raise StoreError("the migrations are missing from this installation: install ovoz again")
    return before, after


def prepare(engine: sa.Engine) -> None:
    """Make the schema in an empty database. Raises StoreError for one that an older or newer Ovoz made, StoreAway."""
    head = ScriptDirectory.from_config(_alembic()).get_current_head()
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        if found is None:
            upgrade(engine)
    except sa.exc.DBAPIError as error:
        raise (StoreAway(str(error.orig).strip()) if away(error) else error) from error
    if found not in (None, head):
        where = engine.url.render_as_string()
        known = {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}
        remedy = "run: ovoz store upgrade" if found in known else "run the newer version of Ovoz that made it"
        raise StoreError(f"{where} has schema revision {found}, this Ovoz needs {head}: {remedy}")


class transaction:
    """`with transaction(engine) as connection:`; a database that is away or full becomes StoreAway."""

    def __init__(self, engine: sa.Engine) -> None:
        self._begin = engine.begin()

    def __enter__(self) -> sa.Connection:
        try:
            return self._begin.__enter__()
        except sa.exc.DBAPIError as error:
            raise self._verdict(error) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._begin.__exit__(kind, error, trace)
        except sa.exc.DBAPIError as failed:
            raise self._verdict(failed) from failed
        if isinstance(error, sa.exc.DBAPIError):
            raise self._verdict(error) from error

    @staticmethod
    def _verdict(error: sa.exc.DBAPIError) -> Exception:
        return StoreAway(str(error.orig).strip()) if away(error) else error


def away(error: sa.exc.DBAPIError) -> bool:
    """Whether the database, not the statement, is to blame: waiting and trying again may help."""
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.OperationalError):
        return any(word in str(error.orig) for word in ("locked", "busy", "full", "disk", "unable to open", "readonly"))
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _sqlite_connect(connection: sqlite3.Connection, _: object) -> None:
    # The driver's own transaction control would begin without a lock; `_sqlite_begin` does it right.
    connection.isolation_level = None
    # The write-ahead log is cut back to this whenever it begins anew, or it would stay as long as it ever was.
    # Pages that change in every transaction go into the database once in so long.
    log = (f"journal_size_limit={WAL_BYTES}", f"wal_autocheckpoint={WAL_BYTES // 4096}")
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", *log):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
