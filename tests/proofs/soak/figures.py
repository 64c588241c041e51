"""The figures of a soak, and which of them must not be."""

from __future__ import annotations

from dataclasses import dataclass

MOST_MEMORY_GROWTH = 1.10
POOL = 15
"""Connections that SQLAlchemy's default pool opens at most, in each process."""
PROCESSES = 4


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of a soak.

    ``replayed_after_seconds``: of each family that the provider revoked, how long after a refresh token was
    spent it was presented again; later than the grace period, nobody could have helped. ``unknown_twice``:
    the grants of which the ledger shows that the replay's outcome is unknown too, so that only a third post
    could help: no more sessions than these may be lost.
    """

    rotations: int
    grants: int
    seconds: float
    disruptions: dict[str, int]
    answers: dict[str, int]
    replays: int
    presented_too_often: int
    families_revoked: int
    replayed_after_seconds: list[float]
    sessions_lost: int
    unknown_twice: int
    breaches: list[str]
    memory_first_mib: float
    memory_last_mib: float
    most_connections: int
    connections_left: int
    busy_when_idle: int

    def wrong(self) -> list[str]:
        """Return what must not be."""
        growth = self.memory_last_mib / self.memory_first_mib if self.memory_first_mib else 1.0
        checks = {
            "refresh tokens presented too often": self.presented_too_often,
            "families revoked": self.families_revoked,
            "sessions lost": max(self.sessions_lost - self.unknown_twice, 0),
            "breaches in the ledger": len(self.breaches),
            "connections leaked": self.connections_left + self.busy_when_idle,
            "more connections than pools allow": self.most_connections > (PROCESSES + 1) * POOL,
            f"memory grew by {growth:.2f}": growth > MOST_MEMORY_GROWTH,
        }
        return [what for what, amount in checks.items() if amount]
