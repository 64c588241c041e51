"""The extension against django-oauth-toolkit, both in several processes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.servers.django_oauth_toolkit.toolkit import (
    CLIENT_ID,
    CLIENT_SECRET,
    Family,
    Toolkit,
    make_database,
    sign_in,
    tokens_of,
    toolkit,
)
from tests.servers.processes import free_port
from tests.servers.visitors import Answer, Visitor, eventually, wave
from tests.servers.web import APPLICATION, PLAIN_APPLICATION, gunicorn, plain_settings, settings

SESSIONS = 10
REQUESTS = 16
SETTLE_SECONDS = 2
"""The default of TOKENROTATE_SETTLE_SECONDS."""

EXPIRIES = [pytest.param(expiries, marks=pytest.mark.long) for expiries in (2, 5)]
STORM_USERS = {count: [f"user{number}of{count}" for number in range(SESSIONS)] for count in (2, 5)}
USERS = [*STORM_USERS[2], *STORM_USERS[5], "alice", "bob", "carol", "dave"]


@dataclass(frozen=True)
class Place:
    """The application, registered at a strict provider and at one with a grace period."""

    url: str
    strict: Toolkit
    graceful: Toolkit

    def visitor(self, user: str) -> Visitor:
        """Return a visitor who has signed in by the pages of the strict provider."""
        with requests.Session() as browser:
            callback = sign_in(browser, f"{self.url}/auth/strict/login?next=/token/strict", user)
            arrived = browser.get(callback)
            assert arrived.status_code == 200, arrived.text
            assert arrived.json()["user"] == user
            return Visitor(self.url, f"session={browser.cookies['session']}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The three servers: each provider on SQLite, the application in 4 processes of 8 threads."""
    folder = tmp_path_factory.mktemp("dot")
    port = free_port()
    callbacks = [f"http://127.0.0.1:{port}/auth/{name}/callback" for name in ("strict", "graceful")]
    database = make_database(folder / "database", callbacks, USERS)
    with (
        toolkit(folder / "strict", database, grace_seconds=0) as strict,
        # A replay brings the access token of the first post, which is older than the pause between the two.
        toolkit(folder / "graceful", database, grace_seconds=20, access_seconds=60) as graceful,
    ):
        providers = {"strict": strict.registration(), "graceful": graceful.registration()}
        environment = settings(f"sqlite:///{folder}/grants.sqlite3", providers)
        options = ["--threads", "8", "--preload"]
        with gunicorn(APPLICATION, folder, *options, port=port, workers=4, **environment) as url:
            yield Place(url, strict, graceful)


@pytest.mark.parametrize("expiries", EXPIRIES)
def test_a_storm_over_several_expiries_loses_no_session(place: Place, expiries: int) -> None:
    """All sessions, many requests each, while tokens of 2 s expire: none is presented twice or revoked."""
    users = STORM_USERS[expiries]
    visitors = [place.visitor(user) for user in users]

    def all_have_rotated() -> bool:
        answers = wave(visitors, REQUESTS, "/token/strict")
        assert Counter(answer.status for answer in answers) == {200: SESSIONS * REQUESTS}
        return min(place.strict.family(user).issued for user in users) > expiries

    eventually(all_have_rotated, seconds=60)
    answers = wave(visitors, 1, f"/token/strict?api={place.strict.url}/me")
    assert [(answer.json["user"], answer.json["api"]) for answer in answers] == [
        (user, 200) for user in users
    ]
    for user in users:
        family = place.strict.family(user)
        assert family == Family(issued=family.issued, alive=1, presented=(1,) * (family.issued - 1))


def test_the_provider_revokes_the_family_of_a_token_presented_twice(place: Place) -> None:
    """The control: the second presentation is refused, and the tokens of the first one die with it."""
    first = tokens_of(place.strict, "alice", f"{place.url}/auth/strict/callback")["refresh_token"]
    second = place.strict.redeem(first).json()["refresh_token"]
    assert place.strict.redeem(first).json()["error"] == "invalid_grant"
    assert place.strict.redeem(second).json()["error"] == "invalid_grant"
    assert place.strict.family("alice") == Family(issued=2, alive=0, presented=(1, 2))


@pytest.mark.long
def test_the_same_storm_loses_a_session_without_the_extension(place: Place, tmp_path: Path) -> None:
    """The control: where each request refreshes for itself, the first expiry is the last."""
    environment = plain_settings(f"{place.strict.url}/o/token/", CLIENT_ID, CLIENT_SECRET)
    tokens = tokens_of(place.strict, "dave", f"{place.url}/auth/strict/callback")
    with gunicorn(PLAIN_APPLICATION, tmp_path, "--threads", "8", **environment) as url:
        visitor = Visitor(url)
        visitor.sign_in({**tokens, "expires_in": -1})
        answers = wave([visitor], REQUESTS)
    assert 401 in {answer.status for answer in answers}
    assert max(place.strict.family("dave").presented) > 1


def answers_after_a_lost_one(place: Place, name: str, provider: Toolkit, user: str) -> tuple[Answer, Answer]:
    """Let the provider rotate and never answer; return what the next request gets, and the one after it.

    The provider may still be at work, so the one replay comes after a pause, and until then there is no
    token: 503, although it is known at once that the answer will not come.
    """
    visitor = Visitor(place.url)
    tokens = tokens_of(provider, user, f"{place.url}/auth/{name}/callback")
    visitor.sign_in({**tokens, "expires_in": -1}, name)
    provider.lose_the_next_answer()
    page = f"/token/{name}?api={provider.url}/me"
    during = visitor.get(page)
    answers = (visitor.get(page) for _ in itertools.count())
    return during, eventually(lambda: next(answer for answer in answers if answer.status != 503))


def test_a_lost_answer_is_recovered_within_the_grace_period(place: Place) -> None:
    """After the pause the one replay gets the same new tokens, and they work."""
    during, after = answers_after_a_lost_one(place, "graceful", place.graceful, "bob")
    assert (during.status, int(during.headers["Retry-After"])) == (503, SETTLE_SECONDS)
    assert (after.status, after.json["api"]) == (200, 200)
    assert place.graceful.family("bob") == Family(issued=2, alive=1, presented=(2,))


def test_a_lost_answer_costs_the_session_without_a_grace_period(place: Place) -> None:
    """The limit, and the control: tokens that a strict provider issued and did not deliver are lost.

    The refused replay shows that the token was spent, not that the grant is dead: perhaps somebody has the
    answer. So it is called unknown, and the row stays open.
    """
    during, after = answers_after_a_lost_one(place, "strict", place.strict, "carol")
    assert (during.status, int(during.headers["Retry-After"])) == (503, SETTLE_SECONDS)
    assert (after.status, after.json["reason"]) == (401, "outcome_unknown")
    assert place.strict.family("carol") == Family(issued=2, alive=0, presented=(2,))
