"""An expired token and several requests of its session at once.

One session after the other, contestants taking turns, after two crowds that do not count: what a worker
does for the first time is no storm. The provider's own log says what was redeemed and which families died.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from tests.servers.visitors import Visitor, at_once

from ..contestants import TITLES
from ..lab import Lab, Timed, timed
from ..measure import percentile
from ..report import Bound, Report, Table

CROWD = 16
TABS = 2
RESPONSE_SECONDS = 0.1
POLLS_LIMIT = 6
WARM_UP = 2


def measure(lab: Lab) -> Report:
    """Measure crowds of 16 requests, then two tabs, then how often waiters look at the row."""
    lab.provider.turn(response_seconds=RESPONSE_SECONDS)
    names = lab.chosen(*[name for name in TITLES if name != "floor"])
    report = Report(name="storm", title="Storm on an expired token")
    sessions = lab.scaled(8 * lab.rounds, 4)
    with lab.serving(names) as urls:
        _bursts(lab, urls, WARM_UP, CROWD)
        for requests in (CROWD, TABS):
            bursts = _bursts(lab, urls, sessions, requests)
            report.tables.append(_table(lab, bursts, sessions, requests))
            if requests == CROWD:
                report.bounds += _bounds(bursts)
    if "tokenrotate" in names:
        for title, more in (("", {}), (", without LISTEN", {"NO_LISTEN": "1"})):
            polls = polls_for_each_rotation(lab, lab.scaled(20, 5), **more)
            figure = f"storm: reads of the row after each process's first, for each rotation{title}"
            report.bounds.append(Bound(figure=figure, value=polls, limit=POLLS_LIMIT))
    lab.provider.turn(response_seconds=0.0)
    return report


def _bursts(lab: Lab, urls: dict[str, str], sessions: int, requests: int) -> dict[str, list[Timed]]:
    lab.provider.clear_log()
    bursts: dict[str, list[Timed]] = {name: [] for name in urls}
    for _ in range(sessions):
        for name, url in urls.items():
            bursts[name] += burst(lab.visitor(url, name), requests)
    return bursts


def burst(visitor: Visitor, requests: int) -> list[Timed]:
    """Send requests of one session, all at once."""
    return at_once([lambda: timed(lambda: visitor.get("/token"))] * requests)


def _table(lab: Lab, bursts: dict[str, list[Timed]], sessions: int, requests: int) -> Table:
    rows = []
    for name, answers in bursts.items():
        served = sum(each.answer.status == 200 for each in answers)
        milliseconds = [each.milliseconds for each in answers]
        rows.append(
            [
                TITLES[name],
                lab.provider.redemptions(name) / sessions,
                f"{lab.provider.lost(name)} of {sessions}",
                f"{served} of {len(answers)}",
                percentile(milliseconds, 0.5),
                percentile(milliseconds, 0.99),
            ]
        )
    columns = ["", "redemptions for each expiry", "sessions lost", "answered", "p50 ms", "p99 ms"]
    return Table(title=f"{requests} requests at once", columns=columns, rows=rows, plot=5)


def _bounds(bursts: dict[str, list[Timed]]) -> list[Bound]:
    if "tokenrotate" not in bursts:
        return []
    bounds = []
    for rival in ("for_update", "redis_lock"):
        for title, share in (("p50", 0.5), ("p99", 0.99)):
            if rival in bursts:
                ours, theirs = (
                    percentile([each.milliseconds for each in bursts[name]], share)
                    for name in ("tokenrotate", rival)
                )
                bounds.append(
                    Bound(
                        figure=f"storm: {title}", value=ours, limit=theirs, unit="ms", against=TITLES[rival]
                    )
                )
    return bounds


def polls_for_each_rotation(lab: Lab, sessions: int, **more: str) -> float:
    """Return how often processes looked at the row again, after their first look, for each rotation.

    Measured apart from the times, for counting costs some.
    """
    with lab.serving(["tokenrotate"], COUNT_READS="1", **more) as urls:
        visitors = [lab.visitor(urls["tokenrotate"], "tokenrotate") for _ in range(sessions)]
        notes = max(Path(lab.folder).glob("tokenrotate-*/reads"), key=lambda path: path.stat().st_mtime)
        before = notes.read_text().splitlines()
        for visitor in visitors:
            burst(visitor, CROWD)
        reads = notes.read_text().splitlines()[len(before) :]
    looks: dict[str, Counter[str]] = defaultdict(Counter)
    for read in reads:
        process, grant = read.split()
        looks[grant][process] += 1
    return sum(count - 1 for of_grant in looks.values() for count in of_grant.values()) / sessions
