"""Runs a soak and audits it: the provider's log, the ledger, the rows, connections and memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, func, make_url, or_, select
from sqlalchemy.pool import NullPool

from flask_tokenrotate import TokenRotate
from flask_tokenrotate.errors import TokenRotateError
from flask_tokenrotate.storage.database import schema
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.testing import FakeProvider
from flask_tokenrotate.testing.provider import LogEntry
from flask_tokenrotate.testing.provider.journal import Journal
from flask_tokenrotate.web.state import current_state
from tests.servers import Servers
from tests.servers.processes import ROOT

from .disruptions import Disruptions
from .figures import PROCESSES, Figures
from .worker import STOP, TIMING, Orders, make_app

GRACE_SECONDS = 300.0
"""Longer than a round through all users may take on a slow machine: who comes back later is lost anywhere."""

ROTATIONS_PER_DISRUPTION = 60


def soak(
    folder: Path,
    servers: Servers,
    engine: str,
    *,
    rotations: int,
    grants: int,
    seed: int,
    disrupted: bool = True,
    database: str = "",
) -> Figures:
    """Run a soak in ``folder``, in a new database unless one is given. Raises `Unavailable`."""
    database = database or new_database(servers, engine)
    lifetime = max(grants / 400, 0.5)
    with FakeProvider(lifetime=lifetime, grace_seconds=GRACE_SECONDS) as provider, ExitStack() as stack:
        profile = provider.registration(grace_seconds=GRACE_SECONDS)
        app, rotate = make_app(folder, database, profile)
        stack.enter_context(app.app_context())
        users = {
            f"user{number}": rotate.adopt(
                "fake", provider.mint(user=f"user{number}"), user_id=f"user{number}"
            ).id
            for number in range(grants)
        }
        orders = Orders(str(folder), database, profile, users)
        (folder / "orders.json").write_text(orders.as_text())
        with _workers(folder) as workers:
            disruptions = Disruptions(
                seed=seed,
                provider=provider,
                workers=workers,
                respawn=lambda: _start(folder),
                cut_off=lambda: servers.cut_off(engine, database),
                rotate=rotate,
                users=users,
            )
            began = time.monotonic()
            most_connections = _let_run(
                provider, disruptions if disrupted else None, rotations, engine, database
            )
            took = time.monotonic() - began
            reports = _stop(folder, workers)
        pool: Any = current_state().grants._transactions._database.engine()  # type: ignore[attr-defined]
        breaches = [f"{breach.grant_id}: {breach.what}" for breach in current_state().maintenance.breaches()]
        lost = _lost(rotate, users)
        pool.dispose()
        return _figures(
            provider, reports, disruptions, database, engine, took, breaches, lost, most_connections, grants
        )


def new_database(servers: Servers, engine: str) -> str:
    """Return the URI of a new database that has the tables. Raises `Unavailable`."""
    uri = servers.new_database(engine)
    made = create_engine(uri)
    create_tables(made)
    made.dispose()
    return uri


def _let_run(
    provider: FakeProvider, disruptions: Disruptions | None, rotations: int, engine: str, database: str
) -> int:
    """Let disruptions happen until the provider has rotated so often; return the most connections seen."""
    most, due = 0, ROTATIONS_PER_DISRUPTION
    while (done := provider.journal.outcomes()["rotated"]) < rotations:
        if disruptions is not None and done >= due:
            disruptions.one()
            due = max(due, done) + ROTATIONS_PER_DISRUPTION
        most = max(most, _connections(engine, database))
        time.sleep(0.2)
    return most


def _stop(folder: Path, workers: list[subprocess.Popen[bytes]]) -> list[list[dict[str, Any]]]:
    """Let the workers end, the first one's report first; return the lines of each."""
    (folder / STOP).touch()
    for worker in workers:
        worker.wait(60)
    first = folder / f"worker-{workers[0].pid}.jsonl"
    others = sorted(set(folder.glob("worker-*.jsonl")) - {first})
    # A worker that was killed may have left half a line.
    return [
        [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
        for file in (first, *others)
    ]


def _figures(
    provider: FakeProvider,
    reports: list[list[dict[str, Any]]],
    disruptions: Disruptions,
    database: str,
    engine: str,
    seconds: float,
    breaches: list[str],
    lost: list[str],
    most_connections: int,
    grants: int,
) -> Figures:
    answers: Counter[str] = sum((Counter(lines[-1]["seen"]) for lines in reports if lines), Counter())
    memory = [line["rss"] / 2**20 for line in reports[0]]
    quarter = max(len(memory) // 4, 1)
    log = provider.journal
    twice = log.double_presentations()
    replays = _replays(database)
    return Figures(
        rotations=log.outcomes()["rotated"],
        grants=grants,
        seconds=round(seconds, 1),
        disruptions=dict(disruptions.seen),
        answers=dict(answers),
        replays=replays.total(),
        presented_too_often=sum(times > 2 for times in twice.values()) + (_doubled(log) - replays).total(),
        families_revoked=log.families_revoked(),
        replayed_after_seconds=_too_late(log.entries()),
        sessions_lost=len({*lost, *(user for lines in reports for line in lines for user in line["lost"])}),
        unknown_twice=_unknown_twice(database),
        breaches=breaches,
        # The first quarter of the first half: the cache and the interpreter have warmed up by then.
        memory_first_mib=round(statistics.median(memory[quarter : 2 * quarter] or memory), 1),
        memory_last_mib=round(statistics.median(memory[-quarter:]), 1),
        most_connections=most_connections,
        connections_left=_connections(engine, database),
        busy_when_idle=max((line["busy_connections"] for lines in reports for line in lines), default=0),
    )


def _too_late(entries: list[LogEntry]) -> list[float]:
    spent = {entry.presented: entry.at for entry in reversed(entries) if entry.outcome == "rotated"}
    return [
        round(e.at - spent[e.presented], 1) for e in entries if e.outcome == "reused" and e.presented in spent
    ]


def _lost(rotate: TokenRotate, users: dict[str, str]) -> list[str]:
    """Return the users who do not get a token when all is calm."""
    time.sleep(TIMING["claim"] + TIMING["settle"])
    return [user for user, grant in users.items() if not _is_served(rotate, grant)]


def _is_served(rotate: TokenRotate, grant: str) -> bool:
    for _ in range(3):
        try:
            return bool(rotate.token(grant).access_token)
        except TokenRotateError:
            time.sleep(1.0)
    return False


def _doubled(log: Journal) -> Counter[str | None]:
    """Return how many refresh tokens of each user the provider looked at more than once."""
    users = {entry.presented: entry.user for entry in log.entries()}
    return Counter(users[token] for token in log.double_presentations())


def _replays(database: str) -> Counter[str | None]:
    """Return how many replays the ledger has of each user."""
    of_grant = schema.redemptions.join(schema.grants, schema.grants.c.id == schema.redemptions.c.grant_id)
    query = select(schema.grants.c.user_id).select_from(of_grant).where(schema.redemptions.c.slot == 1)
    with create_engine(database, poolclass=NullPool).connect() as connection:
        return Counter(connection.execute(query).scalars())


def _unknown_twice(database: str) -> int:
    row = schema.redemptions.c
    nobody_knows = or_(row.verdict.is_(None), row.verdict == "unknown")
    query = select(func.count(row.grant_id.distinct())).where(row.slot == 1, nobody_knows)
    with create_engine(database, poolclass=NullPool).connect() as connection:
        return int(connection.execute(query).scalar_one())


def _connections(engine: str, database: str) -> int:
    """Return how many connections others have to the database."""
    name = make_url(database).database
    # Less the one that asks.
    queries = {
        "postgresql": f"SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = '{name}'",
        "mariadb": f"SELECT count(*) - 1 FROM information_schema.processlist WHERE db = '{name}'",
    }
    if engine not in queries:
        return 0
    with create_engine(database, poolclass=NullPool).connect() as connection:
        return int(connection.exec_driver_sql(queries[engine]).scalar_one())


@contextmanager
def _workers(folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    workers = [_start(folder) for _ in range(PROCESSES)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.proofs.soak.worker", str(folder / "orders.json")]
    with (folder / "workers.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stderr=log)
