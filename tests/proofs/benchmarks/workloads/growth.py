"""The grants' table at 1 k, 100 k and 1 M rows: what each step of the protocol takes there.

The rows are copies of one sealed sample, but for a few hundred real grants all over them that the
steps are measured on. The databases are measured in turn.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from flask_tokenrotate.rotation.tokens import Grant, NewGrant, Secret, TokenResponse
from flask_tokenrotate.rotation.verdict import NotPosted
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.sealed.sealing import Sealer

from ..lab import Lab
from ..report import Bound, Report, Table

GROWTH_LIMIT = 1.3
HOT_LIMIT = 95.0
REAL = 500
HANDFULS = 50
STEPS = ("load", "claim", "save", "release")
TABLES = ("tokenrotate_grants", "tokenrotate_redemptions")


@dataclass(slots=True)
class Size:
    """A database with so many grants, and what the steps took there, in microseconds."""

    rows: int
    store: SqlGrantStore
    admin: Engine
    grants: list[str]
    took: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    rotations: int = 0


def measure(lab: Lab) -> Report:
    """Fill the databases and rotate in each of them in turn."""
    sizes = [_filled(lab, rows) for rows in (1_000, 100_000, *((1_000_000,) if not lab.short else ()))]
    before = {size.rows: _bytes(size) for size in sizes}
    chosen = random.Random(1)
    for _ in range(lab.scaled(60 * lab.rounds, 40)):
        for size in sizes:
            for _ in range(5):
                _steps(size, chosen.choice(size.grants))
    report = Report(name="growth", title="Growth on PostgreSQL")
    report.tables += [_times(sizes), _space(sizes, before), _sweep(sizes[-1])]
    small, large = sizes[0], sizes[-1]
    for step in STEPS[:3]:
        ratio = median(large.took[step]) / median(small.took[step])
        figure = f"growth: {step} at {large.rows:,} grants over {small.rows:,}"
        report.bounds.append(Bound(figure=figure, value=ratio, limit=GROWTH_LIMIT))
    report.bounds.append(
        Bound(
            figure=f"growth: HOT updates of grants at {large.rows:,}",
            value=_hot_share(large),
            limit=HOT_LIMIT,
            unit="%",
            direction="at least",
        )
    )
    return report


def _filled(lab: Lab, rows: int) -> Size:
    uri = lab.servers.new_database("postgresql")
    store = SqlGrantStore(Database.from_uri(uri), Sealer([bytes(32)]))
    admin = create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    create_tables(admin)
    sample = TokenResponse(
        access_token=Secret("a" * 43), refresh_token=Secret("r" * 43), token_type="Bearer", expires_in=3600.0
    )
    columns = ", ".join(column.name for column in grants.columns if column.name not in ("id", "user_id"))
    copy = text(
        f"INSERT INTO tokenrotate_grants (id, user_id, {columns}) "
        f"SELECT md5(n::text), 'copy ' || n, {columns} FROM tokenrotate_grants, "
        "generate_series(CAST(:first AS integer), :last) n WHERE id = :sample"
    )
    real: list[str] = []
    copies = (rows - REAL) // HANDFULS
    with admin.connect() as connection:
        # In handfuls all over the table, not next to each other on a few of its pages.
        for handful in range(HANDFULS):
            for number in range(REAL // HANDFULS):
                new = NewGrant(provider="fake", user_id=f"user {handful}-{number}", response=sample)
                real.append(store.add(new).id)
            bounds = {"first": handful * copies, "last": (handful + 1) * copies - 1, "sample": real[0]}
            connection.execute(copy, bounds)
        connection.execute(text("VACUUM ANALYZE"))
    return Size(rows, store, admin, real)


def _steps(size: Size, grant_id: str) -> None:
    """Claim and release, then claim and save: each as the protocol does it."""

    def timed(step: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        size.took[step].append((time.perf_counter() - start) * 1e6)
        return result

    def load() -> Grant:
        grant = size.store.load(grant_id)
        assert grant is not None
        return grant

    def claim(seen: Grant) -> Any:
        won = size.store.try_claim(seen, doubts=0, holder="benchmark", seconds=10.0)
        assert won is not None
        return won

    seen = timed("load", load)
    won = timed("claim", lambda: claim(seen))
    timed("release", lambda: size.store.release(won, NotPosted()))
    seen = load()
    won = timed("claim", lambda: claim(seen))
    timed("save", lambda: size.store.save(seen, won, seen.tokens))
    size.rotations += 1


def _times(sizes: list[Size]) -> Table:
    rows: list[list[str | float | None]] = [
        [step, *[median(size.took[step]) for size in sizes]] for step in STEPS
    ]
    for row in rows:
        row.append(float(row[-1] or 0) / float(row[1] or 1))
    columns = ["µs, median", *[f"{size.rows:,} grants" for size in sizes], "growth"]
    return Table(title="Steps of the protocol", columns=columns, rows=rows)


def _space(sizes: list[Size], before: dict[int, dict[str, int]]) -> Table:
    rows: list[list[str | float | None]] = []
    for size in sizes:
        after = _bytes(size)
        table, ledger = TABLES
        claims = 2 * size.rotations
        ledger_bytes = (after[ledger] - before[size.rows][ledger]) / claims
        grown = (after[table] - before[size.rows][table]) / size.rotations
        rows.append(
            [
                f"{size.rows:,} grants",
                after[table] / 1e6,
                after[table] / size.rows,
                float(size.rotations),
                grown,
                ledger_bytes,
                # Bytes for each of a million rotations are megabytes in all.
                ledger_bytes,
                _hot_share(size),
            ]
        )
    columns = ["", "table and indexes, MB", "bytes for each grant", "rotations", "bytes that each adds"]
    columns += ["bytes of each claim in the ledger", "ledger after 1 M rotations, MB", "HOT updates %"]
    note = "The ledger's size after 1 M rotations is extrapolated from the claims of this run."
    return Table(title="Space", columns=columns, rows=rows, note=note)


def _bytes(size: Size) -> dict[str, int]:
    with size.admin.connect() as connection:
        return {
            table: int(connection.execute(text(f"SELECT pg_total_relation_size('{table}')")).scalar_one())
            for table in TABLES
        }


def _hot_share(size: Size) -> float:
    query = text(
        "SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'tokenrotate_grants'"
    )
    with size.admin.connect() as connection:
        give_up_at = time.monotonic() + 15
        while True:
            # Backends report what they did only when they have been idle for a moment.
            hot, updates = connection.execute(query).one()
            if updates >= 4 * size.rotations or time.monotonic() > give_up_at:
                return 100 * hot / max(updates, 1)
            time.sleep(0.2)


def _sweep(size: Size) -> Table:
    """What finds expired grants costs, as there is no index on what the protocol writes."""
    queries = {
        "living grants whose token has run out": "SELECT id FROM tokenrotate_grants "
        "WHERE ended_at IS NULL AND expires_at < extract(epoch FROM clock_timestamp())",
        "sessions that expired": "SELECT id_hash FROM tokenrotate_sessions WHERE expires_at < 1",
        "sign-ins that expired": "SELECT state_hash FROM tokenrotate_attempts WHERE expires_at < 1",
        "redemptions to prune": "SELECT claim_id FROM tokenrotate_redemptions WHERE claimed_at < 1",
    }
    rows: list[list[str | float | None]] = []
    with size.admin.connect() as connection:
        # The small tables are empty here: whether an index can be used is the question, not whether it pays.
        for name, query in queries.items():
            small = "grants" not in query and "redemptions" not in query
            connection.execute(text(f"SET enable_seqscan = {'off' if small else 'on'}"))
            plan = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")).scalar_one()[0]
            node = plan["Plan"]
            while "Plans" in node:
                node = node["Plans"][0]
            rows.append([name, node["Node Type"], plan["Execution Time"]])
    note = (
        "The extension never searches for grants by their expiry: each request reads its own, by primary "
        "key, and an index on a column that the protocol writes would cost every rotation its HOT update. "
        "Such a search reads the whole table. So does pruning the ledger, once in many days."
    )
    columns = ["looking for", "how", f"ms at {size.rows:,} grants"]
    return Table(title="Finding what is due", columns=columns, rows=rows, note=note)
