"""A provider that answers 503, after a second or at once, under bursts of 4 requests of each session."""

from __future__ import annotations

import time

from tests.servers.visitors import Visitor

from ..contestants import TITLES
from ..lab import Lab, Timed, side_by_side
from ..measure import percentile
from ..report import Bound, Report, Table
from .storm import burst

BURST = 4
SESSIONS = 5
PAUSE_SECONDS = 0.1
"""Between two bursts of one session."""

P50_LIMIT_MS = 50.0
CALLS_LIMIT = {1.0: 0.05, 0.0: 0.02}
"""Calls to the provider for each request, by the seconds that it takes to fail."""


def measure(lab: Lab) -> Report:
    """Measure one contestant after the other, each for the same time."""
    report = Report(name="outage", title="The provider is down")
    names = lab.chosen(*[name for name in TITLES if name != "floor"])
    for response_seconds, limit in CALLS_LIMIT.items():
        lab.provider.turn(response_seconds=response_seconds, outage=True)
        lab.provider.clear_log()
        with lab.serving(names) as urls:
            answers = {name: _traffic(lab, urls[name], name) for name in names}
        lab.provider.turn(response_seconds=0.0, outage=False)
        after = f"after {response_seconds:g} s" if response_seconds else "at once"
        calls = {name: lab.provider.calls(name) / len(answers[name]) for name in names}
        p50 = {name: percentile([each.milliseconds for each in answers[name]], 0.5) for name in names}
        rows = [[TITLES[name], float(len(answers[name])), calls[name], p50[name]] for name in names]
        columns = ["", "requests", "calls for each request", "p50 ms"]
        note = (
            f"{SESSIONS} sessions, each sending {BURST} requests at once again and again, "
            f"{PAUSE_SECONDS * 1000:.0f} ms after the last answers."
        )
        report.tables.append(Table(title=f"503 {after}", columns=columns, rows=rows, plot=2, note=note))
        if "tokenrotate" in names:
            figure = f"503 {after}: calls for each request"
            report.bounds.append(Bound(figure=figure, value=calls["tokenrotate"], limit=limit))
            if response_seconds:
                report.bounds.append(
                    Bound(figure=f"503 {after}: p50", value=p50["tokenrotate"], limit=P50_LIMIT_MS, unit="ms")
                )
    return report


def _traffic(lab: Lab, url: str, name: str) -> list[Timed]:
    visitors = [lab.visitor(url, name) for _ in range(SESSIONS)]
    until = time.monotonic() + lab.scaled(lab.rounds + 2, 2)

    def insist(visitor: Visitor) -> list[Timed]:
        answers: list[Timed] = []
        while time.monotonic() < until:
            answers += burst(visitor, BURST)
            time.sleep(PAUSE_SECONDS)
        return answers

    loops = side_by_side([lambda visitor=visitor: insist(visitor) for visitor in visitors])
    return [each for answers in loops for each in answers]
