"""What happens at a slow provider, and what must not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from flask_tokenrotate.testing import FakeProvider
from tests.servers.sabotage import ABORT_WHEN_OVERDUE, RENEW_NOTHING, turned_on
from tests.servers.visitors import eventually

from .figures import LONGEST_WAIT, SHORT_SECONDS, Figures
from .place import SYNC, THREADS, Place, User
from .traffic import Samples, clients

EXPIRED, AHEAD = 3, 4
REQUESTS_OF_EACH = 2
"""Fewer than one worker has threads, should it get all of them: nobody shall queue for a thread."""

RECOVERY_SECONDS = 20.0
"""The longest pause of a provider that counts as away is 15 s."""


def _has_new_token(user: User) -> bool:
    answer = user.visitor.get("/token/fake")
    return answer.status == 200 and answer.json["version"] > 0


def _wait(folder: Path, scenario: str, provider_takes: float, lasts: float, sabotage: str = "") -> Figures:
    """Let users come all the time while the provider takes so long for each response."""
    waiting, going_on = Samples(), Samples()
    figures = Figures(scenario, EXPIRED + AHEAD)
    with ExitStack() as stack:
        provider = stack.enter_context(FakeProvider(after_seconds=provider_takes))
        place = Place(folder, provider, *THREADS)
        if sabotage:
            stack.enter_context(turned_on(folder, sabotage))
        running = stack.enter_context(place.served())
        users = place.sign_in(running.url, expired=EXPIRED, ahead=AHEAD)
        expired = [user.visitor for user in users if user.is_expired] * REQUESTS_OF_EACH
        ahead = [user.visitor for user in users if not user.is_expired]
        with clients(ahead, "/token/fake", going_on), clients(expired, "/token/fake", waiting):
            time.sleep(lasts)
        if not sabotage:
            for user in users:
                eventually(lambda user=user: _has_new_token(user), seconds=RECOVERY_SECONDS)
        figures.count(Samples(waiting.all + going_on.all), provider)
    figures.more["longest_wait_ahead"] = round(going_on.longest, 1)
    if not sabotage:
        figures.expect(set(going_on.statuses) == {200}, "a token that was valid was not served")
        figures.expect(going_on.longest < SHORT_SECONDS, "somebody waited for a rotation ahead")
        figures.expect_nothing_lost()
    return figures


def eight_seconds(folder: Path) -> Figures:
    """Longer than a response may take until it is overdue, shorter than a claim and a request's waiting."""
    return _wait(folder, "eight-seconds", 8.0, lasts=10.0)


def forty_seconds(folder: Path) -> Figures:
    """Longer than a claim stands without renewal, and than any request waits."""
    return _wait(folder, "forty-seconds", 40.0, lasts=42.0)


def without_renewal(folder: Path) -> Figures:
    """The control: other workers replay what the provider has spent, and it revokes the families."""
    figures = _wait(folder, "without-renewal", 40.0, lasts=20.0, sabotage=RENEW_NOTHING)
    return _must_lose(figures)


def aborted_when_overdue(folder: Path) -> Figures:
    """The control: a call that ends a second before the response loses it, and the replay the family."""
    figures = _wait(folder, "aborted-when-overdue", 8.0, lasts=30.0, sabotage=ABORT_WHEN_OVERDUE)
    return _must_lose(figures)


def _must_lose(figures: Figures) -> Figures:
    figures.problems = (
        [] if figures.families_revoked else ["the control has lost no session: it shows nothing"]
    )
    return figures


def _terminate(folder: Path, scenario: str, provider_takes: float, whole_server: bool) -> Figures:
    """Send SIGTERM to those who hold claims, or to their server, when the tokens have been spent."""
    figures = Figures(scenario, 2)
    samples = Samples()
    with ExitStack() as stack:
        provider = stack.enter_context(FakeProvider(after_seconds=provider_takes))
        place = Place(folder, provider, *THREADS)
        first = stack.enter_context(place.served())
        users = place.sign_in(first.url, expired=1, ahead=1)
        with clients([user.visitor for user in users], "/token/fake", samples, pause=60.0):
            holders = place.holders(users)
            eventually(lambda: provider.redemptions() == len(users))
            began = time.monotonic()
            if whole_server:
                first.process.signal(signal.SIGTERM)
            else:
                for holder in holders:
                    os.kill(holder, signal.SIGTERM)
            eventually(lambda: not any(map(_lives, holders)), seconds=75.0)
            ended_at = time.time()
            figures.more["holders_ended_after"] = round(time.monotonic() - began, 1)
        if whole_server:
            second = stack.enter_context(place.served())
            for user in users:
                user.visitor.url = second.url
        _settle(users, figures, may_be_unknown=provider_takes > LONGEST_WAIT)
        figures.count(samples, provider)
        early = [entry for entry in provider.log if entry.outcome == "reused" and entry.at < ended_at]
        figures.expect(not early, "a token came again while its holder could still save the response")
    if provider_takes < LONGEST_WAIT:
        figures.expect_nothing_lost()
    return figures


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _settle(users: list[User], figures: Figures, *, may_be_unknown: bool) -> None:
    """Wait until each session has a new token, or is lost for a reason that can be."""
    for user in users:
        ends = eventually(lambda user=user: _end(user), seconds=60.0)
        kind = "expired" if user.is_expired else "ahead"
        figures.more[f"{kind}_ends_as"] = ends
        possible = {"new token", "old token", "outcome_unknown"} if may_be_unknown else {"new token"}
        figures.expect(ends in possible, f"the session whose token was {kind} ends as {ends}")


def _end(user: User) -> str:
    """Return what the user's session has come to; empty while they are told to come again."""
    answer = user.visitor.get("/token/fake")
    if answer.status == 200:
        return "new token" if answer.json["version"] else "old token"
    return str(answer.json.get("reason", ""))


def worker_ends_in_eight_seconds(folder: Path) -> Figures:
    """SIGTERM of the worker: the redemptions in progress are drained."""
    return _terminate(folder, "worker-ends-8", 8.0, whole_server=False)


def worker_ends_in_forty_seconds(folder: Path) -> Figures:
    """SIGTERM of the worker: what cannot be drained is in doubt."""
    return _terminate(folder, "worker-ends-40", 40.0, whole_server=False)


def server_ends_in_eight_seconds(folder: Path) -> Figures:
    """SIGTERM of the server, as a deployment sends it: the redemptions in progress are drained."""
    return _terminate(folder, "server-ends-8", 8.0, whole_server=True)


def server_ends_in_forty_seconds(folder: Path) -> Figures:
    """SIGTERM of the server: what cannot be drained is in doubt."""
    return _terminate(folder, "server-ends-40", 40.0, whole_server=True)


NEVER_SESSIONS = 12
FIRST_WAITS = 90.0
"""Seconds: five calls of a worker have to be overdue until it stops asking, and a sync worker waits 15 s for
each; then those that it has begun to wait for."""

LOOKED_AT = 20.0


def never_responds(folder: Path) -> Figures:
    """Two sync workers: when they have waited for the first sessions, they serve other pages."""
    figures = Figures("never-responds", NEVER_SESSIONS)
    pages, tokens = Samples(), Samples()
    with FakeProvider(response_seconds=3600.0) as provider:
        place = Place(folder, provider, *SYNC)
        with place.served() as running:
            users = [user.visitor for user in place.sign_in(running.url, expired=NEVER_SESSIONS)]
            began = time.monotonic()
            with clients(users, "/token/fake", tokens), clients([users[0]], "/process", pages, pause=0.05):
                time.sleep(FIRST_WAITS + LOOKED_AT)
            # Before that, requests queue for a worker: what they wait for is not only a redemption.
            late_pages, late_tokens = pages.since(began + FIRST_WAITS), tokens.since(began + FIRST_WAITS)
            figures.count(late_tokens, provider)
    figures.more |= {
        "pages": len(late_pages.all),
        "pages_p99": round(late_pages.percentile(0.99), 2),
        "tokens_p99": round(late_tokens.percentile(0.99), 2),
        "first_waits": [round(each.at - began) for each in pages.all if each.seconds > SHORT_SECONDS],
    }
    figures.expect(late_pages.percentile(0.99) < SHORT_SECONDS, "pages without a token have to wait")
    figures.expect(set(late_tokens.statuses) == {503}, "a token came from nowhere")
    return figures


LIFETIME, TAKES, STREAM_SECONDS, CLIENTS = 10.0, 6.0, 24.0, 6
LATE_LOOK = 1.5
"""Nothing notifies the other worker on SQLite. It looks at the row when a rotation is probably done, which it
has to learn: after the first one it expects the next within 1.25 of that time."""


def half_a_life(folder: Path) -> Figures:
    """A provider slower than half a token's life: its tokens are below ``min_ttl`` when they come."""
    figures = Figures("half-a-life", 1)
    samples = Samples()
    with FakeProvider(lifetime=LIFETIME, after_seconds=TAKES) as provider:
        place = Place(folder, provider, *THREADS)
        with place.served() as running:
            (user,) = place.sign_in(running.url, expired=1)
            with clients([user.visitor] * CLIENTS, "/token/fake", samples, pause=60.0):
                eventually(lambda: len(samples.all) == CLIENTS, seconds=30.0)
                figures.more["redemptions_for_six"] = provider.redemptions()
            with clients([user.visitor] * CLIENTS, "/token/fake", samples):
                time.sleep(STREAM_SECONDS)
            figures.count(samples, provider)
    figures.more["unavailable"] = samples.statuses.get(503, 0)
    figures.expect(figures.more["redemptions_for_six"] == 1, "six requests made more than one redemption")
    figures.expect(figures.redemptions <= (STREAM_SECONDS + 2 * TAKES) / TAKES + 1, "too many redemptions")
    figures.expect(figures.statuses.keys() == {200}, "a request got no token")
    figures.expect(figures.longest_wait <= LATE_LOOK * TAKES + SHORT_SECONDS, "a request waited too long")
    figures.expect(figures.twice == 0 and figures.families_revoked == 0, "a session was lost")
    return figures


SCENARIOS: Mapping[str, Callable[[Path], Figures]] = {
    "never-responds": never_responds,
    "forty-seconds": forty_seconds,
    "worker-ends-40": worker_ends_in_forty_seconds,
    "server-ends-40": server_ends_in_forty_seconds,
    "half-a-life": half_a_life,
    "eight-seconds": eight_seconds,
    "worker-ends-8": worker_ends_in_eight_seconds,
    "server-ends-8": server_ends_in_eight_seconds,
    "without-renewal": without_renewal,
    "aborted-when-overdue": aborted_when_overdue,
}
"""The longest first: several are played at once, and almost all they do is wait."""
