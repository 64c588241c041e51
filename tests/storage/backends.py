"""The stores that the contract suite runs over, behind one face."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Double, bindparam, create_engine, select

from flask_tokenrotate.attempts import AttemptStore
from flask_tokenrotate.rotation.ports import GrantStore
from flask_tokenrotate.rotation.tokens import Claim, Grant, NewGrant, Secret, TokenResponse, TokenSet
from flask_tokenrotate.rotation.verdict import Busy, Refused, Unknown
from flask_tokenrotate.storage.attempts import SqlAttemptStore
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import redemptions
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.sealed.sealing import sealer_from
from flask_tokenrotate.testing.clock import ManualClock
from flask_tokenrotate.testing.memory import MemoryAttemptStore, MemoryGrantStore

SEALER = sealer_from((), "a secret key for tests")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to set up a database: the engine, its options, and whether the application passes it."""

    engine: str
    options: Mapping[str, Any]
    passed: bool = False

    def __str__(self) -> str:
        level = self.options.get("isolation_level", "default").lower().replace(" ", "-")
        extra = "-snapshot" if "connect_args" in self.options else ""
        return f"{self.engine}-{level}{extra}{'-passed' if self.passed else ''}"

    def database(self, uri: str, **options: Any) -> Database:
        """Return the database at ``uri`` set up in this way, its tables made."""
        options = {**self.options, **options}
        if self.passed:
            database = Database.from_application(create_engine(uri, **options))
        else:
            database = Database.from_uri(uri, options)
        create_tables(database.engine())
        return database


LEVELS = ("AUTOCOMMIT", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
SNAPSHOT = {"init_command": "SET SESSION innodb_snapshot_isolation = ON"}
VARIANTS = [
    *(Variant(engine="postgresql", options={"isolation_level": level}) for level in LEVELS[1:]),
    *(Variant(engine="mariadb", options={"isolation_level": level}) for level in LEVELS[1:]),
    Variant(engine="mariadb", options={"isolation_level": "REPEATABLE READ", "connect_args": SNAPSHOT}),
    Variant(engine="sqlite", options={"isolation_level": "SERIALIZABLE"}),
    *(
        Variant(engine=engine, options={"isolation_level": level}, passed=True)
        for engine, level in (
            ("sqlite", "SERIALIZABLE"),
            ("postgresql", "SERIALIZABLE"),
            ("postgresql", "AUTOCOMMIT"),
            ("mariadb", "SERIALIZABLE"),
            ("mariadb", "AUTOCOMMIT"),
        )
    ),
]


def sql_stores(database: Database) -> tuple[SqlGrantStore, SqlAttemptStore]:
    """Return both stores on ``database``."""
    return SqlGrantStore(database, SEALER), SqlAttemptStore(database, SEALER)


def clock_in_statements(clock: ManualClock) -> Callable[[], Any]:
    """Return what takes the place of `db_now`, so that a test can look at the very edge of a deadline."""
    return lambda: bindparam(None, type_=Double(), callable_=clock.time)


LedgerLine = tuple[str, int | None, str | None, int | None]


@dataclass(frozen=True, kw_only=True)
class Stores:
    """What a contract test works with.

    ``ledger`` returns claim id, slot, verdict and HTTP status of each claim of a grant, oldest first.
    """

    grants: GrantStore
    attempts: AttemptStore
    clock: ManualClock
    ledger: Callable[[str], list[LedgerLine]]


def memory_stores(clock: ManualClock, grants: MemoryGrantStore | None = None) -> Stores:
    """Return the stores in memory; ``grants`` is a variant of the one for grants, on the same clock."""
    store = grants or MemoryGrantStore(clock)

    def ledger(grant_id: str) -> list[LedgerLine]:
        return [
            (row.claim.id, row.slot, row.verdict, row.http_status)
            for row in store.ledger.values()
            if row.claim.grant_id == grant_id
        ]

    return Stores(grants=store, attempts=MemoryAttemptStore(clock), clock=clock, ledger=ledger)


def stores_on(database: Database, clock: ManualClock) -> Stores:
    """Return the stores on ``database``; see `clock_in_statements`."""
    row = redemptions.c
    story = select(row.claim_id, row.slot, row.verdict, row.http_status).order_by(row.version)

    def ledger(grant_id: str) -> list[LedgerLine]:
        with database.engine().connect() as connection:
            return [tuple(each) for each in connection.execute(story.where(row.grant_id == grant_id))]

    grants, attempts = sql_stores(database)
    return Stores(grants=grants, attempts=attempts, clock=clock, ledger=ledger)


BUSY = Busy(cause="http_503", http_status=503)
UNKNOWN = Unknown(cause="no_response")
REFUSED = Refused(error="invalid_grant", http_status=400)


RESPONSE = TokenResponse(
    access_token=Secret("access-0"),
    refresh_token=Secret("refresh-0"),
    scopes=frozenset({"read", "write"}),
    expires_in=3600.0,
    refresh_expires_in=86400.0,
    id_token=Secret("id-0"),
)


def new_grant(**changes: Any) -> NewGrant:
    """Return a grant to add, of a provider and user who mean nothing."""
    return NewGrant(
        **{"provider": "spotify", "response": RESPONSE, "user_id": "ada", "subject": "s-1", **changes}
    )


def token_set(number: int, *, expires_at: float = 1_700_003_600.0) -> TokenSet:
    """Return the token set of the ``number``-th rotation."""
    return TokenSet(
        access_token=Secret(f"access-{number}"),
        refresh_token=Secret(f"refresh-{number}"),
        scopes=frozenset({"read"}),
        expires_at=expires_at,
        lifetime=1800.0,
        refresh_expires_at=None,
    )


def claimed(store: GrantStore, grant: Grant, *, seconds: float = 10.0, doubts: int = 0) -> Any:
    """Take the claim on ``grant`` as it was seen; None when that failed."""
    claim = store.try_claim(grant, doubts=doubts, holder="host:1:2", seconds=seconds)
    return claim if isinstance(claim, Claim) else None


def loaded(store: GrantStore, grant_id: str) -> Grant:
    """Return the row, which has to exist."""
    grant = store.load(grant_id)
    assert grant is not None
    return grant
