"""The storm: many sessions, each with an expired token and many requests at once.

The provider's own log is the referee; what the application says about itself does not count.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import requests

from flask_tokenrotate.testing.provider import sign_in

from .processes import Children, free_ports, start_app, start_provider

T = TypeVar("T")
R = TypeVar("R")

CLIENT_THREADS = 128
"""Requests that are under way at once, at most; all of one session's are, however many."""

TIMEOUT_SECONDS = 60.0

APPLICATIONS = {
    "protected": ("app", "/auth/demo/login"),
    "unprotected": ("unprotected", "/login"),
}
"""The module of each application and the address at which signing in starts."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is sent to whom. ``provider_seconds`` is how long the provider takes for an answer."""

    sessions: int
    requests: int
    processes: int
    provider_seconds: float
    database: str | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one storm did. A session is lost when its next request needs a new sign-in."""

    requests_ok: int
    requests_failed: int
    redemptions_per_expiry: float
    families_revoked: int
    sessions_lost: int
    p50_ms: float
    p99_ms: float

    def nothing_lost(self) -> bool:
        """Return whether every request was answered and every session lives, at one redemption each."""
        lost = self.requests_failed, self.families_revoked, self.sessions_lost
        return not any(lost) and self.redemptions_per_expiry == 1.0


def run_storm(name: str, plan: Plan, folder: Path) -> Figures:
    """Run the storm against one of `APPLICATIONS`, with a provider of its own."""
    module, login = APPLICATIONS[name]
    database = plan.database if name == "protected" else None
    with Children() as children:
        provider = start_provider(children, *free_ports(1), response_seconds=plan.provider_seconds)
        site = start_app(
            children,
            module,
            folder / name,
            free_ports(1),
            provider=provider,
            processes=plan.processes,
            database=database,
        )
        visitors = [Visitor(site, login, f"user-{number}") for number in range(plan.sessions)]
        return _measure(visitors, plan, provider)


def _measure(visitors: Sequence[Visitor], plan: Plan, provider: str) -> Figures:
    in_parallel(Visitor.sign_in, visitors, threads=16)
    in_parallel(Visitor.expire, visitors, threads=16)
    lanes = max(1, CLIENT_THREADS // plan.requests)
    outcomes = in_parallel(lambda visitor: visitor.storm(plan.requests), visitors, threads=lanes)
    # Read before anybody asks for another token.
    log = requests.get(f"{provider}/log", timeout=TIMEOUT_SECONDS).json()
    afterwards = in_parallel(Visitor.work, visitors, threads=16)
    answers = [answer for outcome in outcomes for answer in outcome]
    times = sorted(milliseconds for _, milliseconds in answers)
    ok = sum(status == 200 for status, _ in answers)
    return Figures(
        requests_ok=ok,
        requests_failed=len(answers) - ok,
        redemptions_per_expiry=round(log["redemptions"] / len(visitors), 3),
        families_revoked=log["families_revoked"],
        sessions_lost=sum(status != 200 for status, _ in afterwards),
        p50_ms=percentile(times, 0.50),
        p99_ms=percentile(times, 0.99),
    )


class Visitor:
    """A browser with one session at the application."""

    def __init__(self, site: str, login: str, user: str) -> None:
        self._site = site
        self._login = login
        self._user = user
        self._cookies = requests.cookies.RequestsCookieJar()

    def sign_in(self) -> None:
        """Go through the application's and the provider's pages, as a person would."""
        with self._browser() as browser:
            begun = browser.get(self._site + self._login, allow_redirects=False, timeout=TIMEOUT_SECONDS)
            callback = sign_in(begun.headers["Location"], user=self._user)
            browser.get(callback, allow_redirects=False, timeout=TIMEOUT_SECONDS).raise_for_status()
            self._cookies = browser.cookies

    def expire(self) -> None:
        """Let the access token run out."""
        with self._browser() as browser:
            browser.post(f"{self._site}/expire", timeout=TIMEOUT_SECONDS).raise_for_status()

    def storm(self, count: int) -> list[tuple[int, float]]:
        """Send ``count`` requests at the same moment and return what `work` returns for each."""
        together = threading.Barrier(count)

        def one_of_them(number: int) -> tuple[int, float]:
            together.wait(TIMEOUT_SECONDS)
            return self.work()

        return in_parallel(one_of_them, range(count), threads=count)

    def work(self) -> tuple[int, float]:
        """Send a request that needs a token; return its status (0: no answer) and its milliseconds."""
        with self._browser() as browser:
            began = time.perf_counter()
            try:
                status = browser.get(f"{self._site}/work", timeout=TIMEOUT_SECONDS).status_code
            except requests.RequestException:
                status = 0
            return status, (time.perf_counter() - began) * 1000

    def _browser(self) -> requests.Session:
        # One for each request: a requests.Session is not made for several threads.
        browser = requests.Session()
        browser.trust_env = False
        browser.cookies.update(self._cookies)
        return browser


def in_parallel(function: Callable[[T], R], items: Iterable[T], *, threads: int) -> list[R]:
    """Call ``function`` with each item, in so many threads, and return the results in order."""
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(function, items))
    finally:
        # Not waited for: after Ctrl-C the children have to end first, on whose answers these wait.
        pool.shutdown(wait=False, cancel_futures=True)


def percentile(times: Sequence[float], share: float) -> float:
    """Return the smallest of the sorted ``times`` that at least this share of them do not exceed."""
    return round(times[math.ceil(share * len(times)) - 1], 1)


def table(results: dict[str, Figures]) -> str:
    """Return the figures side by side, for people."""
    lines = ["".join(["".ljust(26), *(name.rjust(14) for name in results)])]
    for field in fields(Figures):
        values = (asdict(figures)[field.name] for figures in results.values())
        lines.append(field.name.replace("_", " ").ljust(26) + "".join(f"{value:>14}" for value in values))
    return "\n".join(lines)
