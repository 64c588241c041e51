"""What a fresh token adds to a request that gunicorn serves: a closed loop of a few browsers."""

from __future__ import annotations

from statistics import median

from tests.servers.visitors import Visitor

from ..contestants import TITLES
from ..lab import Lab, Timed, side_by_side, timed
from ..measure import median_difference, percentile
from ..report import Report, Table

BROWSERS = 4
LASTING = 86_400.0


def measure(lab: Lab) -> Report:
    """Measure all contestants, taking turns in each round."""
    names = list(dict.fromkeys(("floor", *lab.contestants)))
    requests = lab.scaled(60, 20)
    rounds: dict[str, list[list[float]]] = {name: [] for name in names}
    with lab.serving(names) as urls:
        visitors = {
            name: [lab.visitor(url, name, expires_in=LASTING) for _ in range(BROWSERS)]
            for name, url in urls.items()
        }
        for name in names:
            _closed_loop(visitors[name], requests)
        for _ in range(lab.rounds):
            for name in names:
                answers = _closed_loop(visitors[name], requests)
                assert all(each.answer.status == 200 for each in answers), name
                rounds[name].append([each.milliseconds for each in answers])
    medians = {name: [percentile(each, 0.5) for each in rounds[name]] for name in names}
    rows = [
        [
            TITLES[name],
            median(medians[name]),
            median(percentile(each, 0.99) for each in rounds[name]),
            median_difference(medians[name], medians["floor"]),
        ]
        for name in names
    ]
    columns = ["", "p50 ms", "p99 ms", "added to the floor's p50, ms"]
    note = (
        f"{BROWSERS} browsers, each with one request at a time, on a new connection. The client "
        "runs on the same processors."
    )
    table = Table(title="Fresh token, under gunicorn", columns=columns, rows=rows, plot=1, note=note)
    return Report(name="served", title="Fresh token, under gunicorn", tables=[table])


def _closed_loop(visitors: list[Visitor], requests: int) -> list[Timed]:
    def loop(visitor: Visitor) -> list[Timed]:
        return [timed(lambda: visitor.get("/token")) for _ in range(requests)]

    loops = side_by_side([lambda visitor=visitor: loop(visitor) for visitor in visitors])
    return [each for answers in loops for each in answers]
