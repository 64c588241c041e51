"""A database that loses its primary, a node or its quorum while sessions rotate all the time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine

from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.operations.audit import Audit
from flask_tokenrotate.testing import FakeProvider
from tests.servers.galera import Galera
from tests.servers.standby import ReplicatedPostgreSQL
from tests.servers.visitors import Visitor
from tests.servers.web import APPLICATION, gunicorn, settings

from .load import Load

LIFETIME = 3.0
"""Seconds that an access token lives: all sessions rotate several times in a scenario."""


NOTICED_AFTER = 1.5
"""Seconds until the loss of a primary is noticed."""


@dataclass(frozen=True)
class Figures:
    """The figures of a scenario.

    ``ok``, ``unavailable`` (503) and ``otherwise`` are what the visitors saw in the end, of whom
    ``retried_elsewhere`` had to ask a second node, as behind a load balancer. None: not looked at.
    """

    scenario: str
    sessions: int
    ok: int
    unavailable: int
    otherwise: int
    retried_elsewhere: int
    redemptions: int
    double_presentations: int
    families_revoked: int
    sessions_lost: int | None
    ledger_breaches: int | None
    failing_for_seconds: float

    @property
    def is_bad(self) -> bool:
        """Whether anything happened that must not."""
        return bool(
            self.otherwise
            + self.double_presentations
            + self.families_revoked
            + (self.sessions_lost or 0)
            + (self.ledger_breaches or 0)
        )


Fault = Callable[[], None]


@contextmanager
def postgresql_failover() -> Iterator[tuple[list[str], Fault]]:
    """The primary is killed and its synchronous standby promoted."""
    servers = ReplicatedPostgreSQL()
    try:
        yield [servers.uri], lambda: servers.fail_over(seconds=NOTICED_AFTER)
    finally:
        servers.stop()


@contextmanager
def _galera(fault: Callable[[Galera], None]) -> Iterator[tuple[list[str], Fault]]:
    cluster = Galera.start()
    try:
        first = cluster.new_database()
        yield [cluster.at_node(first, node) for node in range(3)], lambda: fault(cluster)
    finally:
        cluster.stop()


def _lose_quorum(cluster: Galera) -> None:
    """Let two of three nodes stand still until the third knows that it is alone, and a while longer."""
    for node in (1, 2):
        cluster.freeze(node)
    cluster.wait_for_quorum(0, has_it=False)
    time.sleep(1.0)
    for node in (1, 2):
        cluster.thaw(node)
    cluster.wait_for_quorum(0, has_it=True)


SCENARIOS: dict[str, Callable[[], contextlib.AbstractContextManager[tuple[list[str], Fault]]]] = {
    "postgresql-failover": postgresql_failover,
    "galera-node-killed": lambda: _galera(lambda cluster: cluster.kill(2)),
    "galera-quorum-lost-and-regained": lambda: _galera(_lose_quorum),
}


def play(scenario: str, folder: Path, *, sessions: int, seconds: float, protected: bool = True) -> Figures:
    """Play one scenario. ``protected`` False: its control, in which nobody takes a claim."""
    with contextlib.ExitStack() as stack:
        uris, fault = stack.enter_context(SCENARIOS[scenario]())
        engine = create_engine(uris[0])
        create_tables(engine)
        engine.dispose()
        provider = stack.enter_context(FakeProvider(lifetime=LIFETIME, response_seconds=0.05))
        urls = []
        for number, uri in enumerate(uris):
            place = folder / f"{scenario}-{number}"
            place.mkdir()
            environment = settings(uri, {"fake": provider.registration()}, rescue_dir=str(folder / "rescue"))
            if not protected:
                (place / "claim-nothing").touch()
            urls.append(
                stack.enter_context(gunicorn(APPLICATION, place, workers=4 // len(uris) + 1, **environment))
            )
        visitors = []
        for number in range(sessions):
            visitor = Visitor(urls[number % len(urls)])
            visitor.sign_in(provider.mint(user=f"user{number}"))
            visitors.append(visitor)
        load = Load(urls, visitors)
        fault_at = time.monotonic() + seconds / 3
        load.run(seconds, fault)
        lost = load.lost() if protected else None
        database = Database.from_uri(uris[0])
        breaches = len(Audit(database).breaches()) if protected else None
        database.engine().dispose()
    log = provider.journal
    return Figures(
        scenario=scenario if protected else f"{scenario}, control",
        sessions=sessions,
        ok=load.statuses[200],
        unavailable=load.statuses[503],
        otherwise=load.statuses.total() - load.statuses[200] - load.statuses[503],
        retried_elsewhere=load.retried,
        redemptions=log.presentations().total(),
        double_presentations=len(log.double_presentations()),
        families_revoked=log.families_revoked(),
        sessions_lost=lost,
        ledger_breaches=breaches,
        failing_for_seconds=round(max(load.last_failure - fault_at, 0.0), 1),
    )
