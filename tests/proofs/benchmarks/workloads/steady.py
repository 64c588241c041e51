"""Steady traffic across expiries: who waits because a token is about to run out, or has?

Browsers ask at a moderate rate while their tokens live for a few seconds. A request is *at expiry* when
it overlaps a redemption for its own user, which the provider's log dates.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from tests.servers.visitors import Visitor

from ..contestants import TITLES
from ..lab import Lab, Timed, side_by_side, timed
from ..measure import percentile, percentile_at_least, share_above, share_error
from ..report import Bound, Report, Table, shown

RESPONSE_SECONDS = 0.1
LIFETIME = 6.0
MIN_TTL = "1"
"""As much shorter as the tokens' lives are; else half of each life would count as over."""

BROWSERS = 24
PAUSE_SECONDS = 0.15
"""Between two requests of one browser: about 130 requests a second in all."""

AROUND_SECONDS = 0.05
"""How long before it was posted and after it was answered a redemption may still delay a request."""

P99_LIMIT = 1.1


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the requests of one contestant took, in milliseconds, and how often tokens were rotated."""

    at_expiry: list[float]
    elsewhere: list[float]
    rotations: int
    failed: int

    @property
    def slow(self) -> float:
        """What counts as slow: more than twice the median."""
        return 2 * median([*self.at_expiry, *self.elsewhere])

    @property
    def waited(self) -> int:
        """How many requests at expiry took as long as the provider, or longer."""
        return sum(value >= RESPONSE_SECONDS * 1000 for value in self.at_expiry)

    @property
    def delayed(self) -> float:
        """How many more requests at expiry are slow than so many requests elsewhere are."""
        expected = share_above(self.elsewhere, self.slow) * len(self.at_expiry)
        return max(0.0, sum(value > self.slow for value in self.at_expiry) - expected)

    @property
    def noise(self) -> float:
        """How many requests `delayed` may say by chance: two standard errors of what it expects."""
        share = share_above(self.elsewhere, self.slow)
        return 2 * len(self.at_expiry) * share_error(share, len(self.at_expiry))

    def in_10_000(self, requests: float) -> float:
        """Return what a count of requests comes to in 10,000 expiries."""
        return 10_000 * requests / max(self.rotations, 1)


def measure(lab: Lab) -> Report:
    """Measure one contestant after the other, each for the same time."""
    lab.provider.turn(response_seconds=RESPONSE_SECONDS, lifetime=LIFETIME)
    measured = {}
    for name in lab.chosen("tokenrotate", "for_update", "redis_lock"):
        with lab.serving([name], MIN_TTL_SECONDS=MIN_TTL) as urls:
            measured[name] = _traffic(lab, name, urls[name])
    lab.provider.turn(response_seconds=0.0, lifetime=3600.0)
    columns = ["", "rotations", "requests", "failed", "waited", "slow at expiry %", "slow elsewhere %"]
    columns += ["p99 at expiry, ms", "p99 elsewhere, ms", "ratio"]
    note = (
        f"{BROWSERS} browsers, tokens that live {LIFETIME:g} s, a provider that answers in "
        f"{RESPONSE_SECONDS * 1000:.0f} ms. Waited: as long as the provider takes, or longer. Slow: more "
        "than twice the median; far from a rotation that is the machine's noise, which hits requests at "
        "expiry as well and is taken off what the bound is compared with."
    )
    rows = [_row(name, traffic) for name, traffic in measured.items()]
    table = Table(title="Tokens of a few seconds", columns=columns, rows=rows, plot=7, note=note)
    bounds = _bounds(measured["tokenrotate"]) if "tokenrotate" in measured else []
    return Report(name="steady", title="Steady traffic across expiries", tables=[table], bounds=bounds)


def _row(name: str, traffic: Traffic) -> list[str | float | None]:
    return [
        TITLES[name],
        float(traffic.rotations),
        float(len(traffic.at_expiry) + len(traffic.elsewhere)),
        float(traffic.failed),
        float(traffic.waited),
        100 * share_above(traffic.at_expiry, traffic.slow),
        100 * share_above(traffic.elsewhere, traffic.slow),
        *_p99s(traffic),
    ]


def _p99s(traffic: Traffic) -> tuple[float, float, float]:
    at_expiry, elsewhere = (percentile(each, 0.99) for each in (traffic.at_expiry, traffic.elsewhere))
    return at_expiry, elsewhere, at_expiry / elsewhere


def _bounds(ours: Traffic) -> list[Bound]:
    waited, delayed, noise = (ours.in_10_000(each) for each in (ours.waited, ours.delayed, ours.noise))
    return [
        Bound(figure="steady: requests that waited, in 10,000 expiries", value=waited, limit=0.0),
        Bound(
            figure="steady: requests delayed beyond noise, in 10,000 expiries",
            value=delayed,
            limit=noise,
            against="0, within two standard errors",
        ),
        Bound(
            figure="steady: p99 at expiry over p99 elsewhere",
            value=percentile_at_least(ours.at_expiry, 0.99) / percentile(ours.elsewhere, 0.99),
            limit=P99_LIMIT,
            against=f"measured less two standard errors; as it is: {shown(_p99s(ours)[2])}",
        ),
    ]


def _traffic(lab: Lab, name: str, url: str) -> Traffic:
    lab.provider.clear_log()
    seconds = lab.scaled(8 * lab.rounds, 6)
    users = [lab.user(name) for _ in range(BROWSERS)]
    stop = threading.Event()

    def browse(number: int) -> list[Timed]:
        visitor = Visitor(url)
        # Not all at the same moment, or what is measured is a crowd of rotations.
        expires_in = LIFETIME * (0.5 + 0.5 * number / BROWSERS)
        visitor.post("/sign-in", lab.tokens(users[number], expires_in=expires_in))
        answers = []
        while not stop.wait(PAUSE_SECONDS):
            answers.append(timed(lambda: visitor.get("/token")))
        return answers

    def watch() -> list[Timed]:
        time.sleep(seconds)
        stop.set()
        return []

    loops = side_by_side([*[lambda number=number: browse(number) for number in range(BROWSERS)], watch])[:-1]
    redeemed = defaultdict(list)
    for user, at in lab.provider.times(name):
        redeemed[user].append(at)
    at_expiry: list[float] = []
    elsewhere: list[float] = []
    for user, answers in zip(users, loops, strict=True):
        # The first requests of a process connect it to the database.
        for each in answers[3:]:
            (at_expiry if overlaps(each, redeemed[user]) else elsewhere).append(each.milliseconds)
    failed = sum(each.answer.status != 200 for answers in loops for each in answers)
    return Traffic(at_expiry, elsewhere, sum(map(len, redeemed.values())), failed)


def overlaps(request: Timed, redeemed: list[float]) -> bool:
    """Return whether the request ran while one of the redemptions was posted, answered or saved."""
    ended = request.began + request.seconds
    return any(
        request.began < at + AROUND_SECONDS and ended > at - RESPONSE_SECONDS - AROUND_SECONDS
        for at in redeemed
    )
