"""The memory of a process against the grants that it has touched: the cache is bounded.

In a process of its own, over a store that makes each grant up when it is read: what grows is ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..lab import Lab
from ..report import Bound, Report, Table

TOUCHED = (0, 1_000, 10_000, 100_000, 200_000)
GROWTH_LIMIT = 1.05


def measure(lab: Lab) -> Report:
    """Run the process and table its memory."""
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    resident = json.loads(done.stdout)
    rows = [[f"{count:,}", kilobytes / 1024] for count, kilobytes in zip(TOUCHED, resident, strict=True)]
    columns = ["grants touched", "resident memory, MB"]
    note = "TOKENROTATE_CACHE_ENTRIES is 10,000, its default: beyond that memory does not grow."
    report = Report(name="memory", title="Memory of a process")
    report.tables.append(Table(title="Grants touched", columns=columns, rows=rows, plot=1, note=note))
    figure = "memory: 200,000 grants touched over 10,000"
    report.bounds.append(Bound(figure=figure, value=resident[4] / resident[2], limit=GROWTH_LIMIT))
    return report


def main() -> None:
    """Touch grants and print the resident memory, in kilobytes, at each of `TOUCHED`."""
    from flask_tokenrotate.clock import SystemClock
    from flask_tokenrotate.config import Settings
    from flask_tokenrotate.rotation.assembly import Rotation
    from flask_tokenrotate.rotation.tokens import Grant, Secret, TokenSet
    from flask_tokenrotate.testing.memory import MemoryWakeups
    from flask_tokenrotate.threads import CallersThread
    from tests.rotation.defaults import default_policy, default_timing

    class MadeUpGrants:
        """A store in which every grant exists, with a token that is fresh."""

        def load(self, grant_id: str) -> Grant:
            tokens = TokenSet(
                access_token=Secret(f"access {grant_id:>36}"),
                refresh_token=Secret(f"refresh {grant_id:>35}"),
                token_type="Bearer",
                scopes=frozenset(["profile", "email"]),
                expires_at=3600.0,
                lifetime=3600.0,
            )
            return Grant(id=grant_id, provider="fake", tokens=tokens, seen_at=0.0, user_id=f"user {grant_id}")

    class NothingToRescue:
        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: ()

    settings = Settings()
    anything: Any = NothingToRescue()
    store: Any = MadeUpGrants()
    clock = SystemClock()
    tokens = Rotation(
        store=store,
        endpoint=anything,
        clock=clock,
        observer=anything,
        rescue=anything,
        wakeups=MemoryWakeups(clock),
        threads=CallersThread(),
        policy_for=lambda provider: default_policy(),
        timing=default_timing(),
        wait_seconds=settings.wait_seconds,
        cache_entries=settings.cache_entries,
        cache_seconds=settings.cache_seconds,
    ).tokens
    resident, touched = [], 0
    for count in TOUCHED:
        for number in range(touched, count):
            tokens.get(f"{number:032x}")
        touched = count
        resident.append(resident_kilobytes())
    print(json.dumps(resident))


def resident_kilobytes() -> int:
    """Return how much of this process is in memory now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))


if __name__ == "__main__":
    main()
