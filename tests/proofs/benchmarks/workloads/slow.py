"""A provider that takes 3 s for a few sessions, next to traffic whose tokens are fresh."""

from __future__ import annotations

import math
import threading

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from ..contestants import TITLES
from ..lab import Lab, Timed, side_by_side, timed
from ..measure import percentile, share_above, share_error
from ..report import Bound, Report, Table, shown

RESPONSE_SECONDS = 3.0
STUCK = 6
TABS = 4
"""Sessions whose token has expired, and the requests of each: three quarters of the server's threads."""

BROWSERS = 4
LASTING = 86_400.0
LIMIT_MS = 1000.0
P99_LIMIT = 1.1
SAMPLE_SECONDS = 0.05

HELD_SECONDS = 0.25
"""A connection in one state for longer than this is held; a statement of the claim takes far less."""

_ACTIVITY = text(
    "SELECT count(*) FILTER (WHERE state <> 'idle'), count(*) FILTER (WHERE state LIKE 'idle in trans%'), "
    "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) - 1 "
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    f"AND state_change < clock_timestamp() - interval '{HELD_SECONDS} s'"
)


def measure(lab: Lab) -> Report:
    """Measure all contestants, one round after the other."""
    report = Report(name="slow", title="A slow provider beside fresh traffic")
    names = lab.chosen(*[name for name in TITLES if name != "floor"])
    times: dict[str, list[float]] = {name: [] for name in names}
    activity: dict[str, tuple[int, int, int]] = {}
    with lab.serving(names) as urls:
        for _ in range(lab.scaled((lab.rounds + 1) // 2, 1)):
            for name in names:
                fresh, seen = _round(lab, name, urls[name])
                times[name] += [each.milliseconds for each in fresh]
                activity[name] = tuple(map(max, zip(seen, activity.get(name, seen), strict=True)))  # type: ignore[assignment]
    lab.provider.turn(response_seconds=0.0)
    rows = [
        [
            TITLES[name],
            percentile(times[name], 0.5),
            percentile(times[name], 0.99),
            100 * share_above(times[name], LIMIT_MS),
            float(len(times[name])),
            *map(float, activity[name]),
        ]
        for name in names
    ]
    columns = [
        "",
        "p50 ms",
        "p99 ms",
        "% over 1 s",
        "requests answered",
        "connections held",
        "idle in transaction",
        "connections open",
    ]
    note = (
        f"{STUCK} sessions × {TABS} requests wait for a provider that takes {RESPONSE_SECONDS:g} s; "
        f"{BROWSERS} browsers whose tokens are fresh ask all the while. Connections: the most at once; held "
        f"and idle in transaction are those that were so for over {HELD_SECONDS} s."
    )
    report.tables.append(Table(title="Fresh traffic", columns=columns, rows=rows, plot=2, note=note))
    report.bounds += _bounds(times, activity)
    return report


def _bounds(times: dict[str, list[float]], activity: dict[str, tuple[int, int, int]]) -> list[Bound]:
    if "tokenrotate" not in times:
        return []
    ours = times["tokenrotate"]
    bounds = [
        Bound(
            figure=f"slow provider: connections {what}",
            value=float(activity["tokenrotate"][number]),
            limit=0.0,
        )
        for number, what in enumerate(("held", "idle in transaction"))
    ]
    if "redis_lock" in times:
        theirs = times["redis_lock"]
        p99 = percentile(theirs, 0.99) * P99_LIMIT
        against = "1.1 × the Redis lock's"
        figure = "slow provider: p99 of fresh traffic"
        bounds.append(
            Bound(figure=figure, value=percentile(ours, 0.99), limit=p99, unit="ms", against=against)
        )
        shares = [share_above(each, LIMIT_MS) for each in (ours, theirs)]
        # A handful of requests each, which the kernel gave to a worker whose threads all waited.
        noise = math.hypot(
            *[share_error(share, len(each)) for share, each in zip(shares, (ours, theirs), strict=True)]
        )
        bounds.append(
            Bound(
                figure="slow provider: share of fresh traffic over 1 s",
                value=100 * shares[0],
                limit=100 * (shares[1] + 2 * noise),
                unit="%",
                against=f"the Redis lock's {shown(100 * shares[1])}, and two standard errors",
            )
        )
    return bounds


def _round(lab: Lab, name: str, url: str) -> tuple[list[Timed], tuple[int, int, int]]:
    fresh = [lab.visitor(url, name, expires_in=LASTING) for _ in range(BROWSERS)]
    stuck = [lab.visitor(url, name) for _ in range(STUCK)]
    lab.provider.turn(response_seconds=RESPONSE_SECONDS)
    done = threading.Event()

    def wait_for_the_provider() -> list[Timed]:
        try:
            calls = [lambda visitor=visitor: timed(lambda: visitor.get("/token")) for visitor in stuck]
            side_by_side(calls * TABS)
        finally:
            done.set()
        return []

    def browse(number: int) -> list[Timed]:
        answers = [timed(lambda: fresh[number].get("/token"))]
        while not done.is_set():
            answers.append(timed(lambda: fresh[number].get("/token")))
        return answers

    seen: list[tuple[int, int, int]] = []

    def sample() -> list[Timed]:
        engine = create_engine(lab.database(name), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            while not done.wait(SAMPLE_SECONDS):
                busy, idle, all_of_them = connection.execute(_ACTIVITY).one()
                seen.append((busy, idle, all_of_them))
        return []

    browsers = [lambda number=number: browse(number) for number in range(BROWSERS)]
    answers = side_by_side([wait_for_the_provider, sample, *browsers])
    most = tuple(max(column) for column in zip(*seen, strict=True))
    return [each for loop in answers for each in loop], most
