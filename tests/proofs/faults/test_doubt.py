"""In doubt: a worker has the provider's answer and is stopped before it saves it.

================================  ==========================  =========================================
Case                              FakeProvider                django-oauth-toolkit
================================  ==========================  =========================================
settling, then one replay         `test_one_replay…`          `test_one_replay…`
replay inside the grace period    the same                    the same
no grace period: refused, and     `test_without_a_grace…`     `test_without_a_grace…`
called unknown
a refusal before the winner's     the same: the winner        the same
save                              saves to the open row
``reauthorize``, late winner      `test_a_late_winner…`       `test_a_late_winner…`
two late winners                  `test_two_late…`            `test_two_late…`
================================  ==========================  =========================================

Controls: `test_without_a_grace…` is the one of the replay, and `test_protections` shows what a late winner
costs that is not saved.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.operations.audit import Audit, Redemption
from flask_tokenrotate.testing import FakeProvider
from tests.servers.django_oauth_toolkit.toolkit import make_database, tokens_of, toolkit
from tests.servers.processes import free_port
from tests.servers.visitors import Answer, Visitor, eventually
from tests.servers.web import gunicorn, settings

from .bench import APPLICATION, GRACE_SECONDS, TIMING, WORKERS, Halter, over
from .cell import PAST_THE_DEADLINE

pytestmark = pytest.mark.long

PROVIDERS = ("fake", "django-oauth-toolkit")
USERS = ["one", "none", "late", "two"]


@dataclass(frozen=True)
class Place:
    """The application at three profiles of one provider, and how users sign in there.

    ``graceful`` has a grace period and replays, ``strict`` has none and replays, ``careful`` has none and
    does not.
    """

    url: str
    database: str
    halter: Halter
    tokens: Callable[[str, str], dict[str, Any]]

    def sign_in(self, user: str, profile: str) -> tuple[Visitor, str]:
        """Return a visitor whose access token has expired, and their grant."""
        visitor = Visitor(self.url)
        return visitor, visitor.sign_in({**self.tokens(user, profile), "expires_in": -1}, profile)

    def history(self, grant: str) -> list[Redemption]:
        """Return the redemptions of the grant in the ledger."""
        database = Database.from_uri(self.database)
        try:
            return Audit(database).history(grant)
        finally:
            database.engine().dispose()

    def lives(self, visitor: Visitor, grant: str, profile: str) -> bool:
        """Return whether the session rotates once more."""
        Visitor(self.url).post(f"/expire/{grant}")
        return visitor.get(f"/token/{profile}").status == 200


@contextmanager
def fake() -> Iterator[tuple[dict[str, Any], Callable[[str, str], dict[str, Any]]]]:
    """Run a FakeProvider with a grace period and one without."""
    with FakeProvider(grace_seconds=GRACE_SECONDS) as graceful, FakeProvider() as strict:
        profiles = {
            "graceful": graceful.registration(grace_seconds=GRACE_SECONDS),
            "strict": strict.registration(),
            "careful": strict.registration(on_unknown="reauthorize"),
        }
        providers = {"graceful": graceful, "strict": strict, "careful": strict}
        yield profiles, lambda user, profile: providers[profile].mint(user=user)


@contextmanager
def django(folder: Path) -> Iterator[tuple[dict[str, Any], Callable[[str, str], dict[str, Any]]]]:
    """Run django-oauth-toolkit with a grace period and without one."""
    callback = f"http://127.0.0.1:{free_port()}/callback"
    database = make_database(folder / "database", [callback], USERS)
    # Access tokens outlive the time for which a worker is halted, as FakeProvider's do.
    serve = functools.partial(toolkit, access_seconds=60)
    with (
        serve(folder / "strict", database, grace_seconds=0) as strict,
        serve(folder / "graceful", database, grace_seconds=int(GRACE_SECONDS)) as graceful,
    ):
        profiles = {
            "graceful": graceful.registration(),
            "strict": strict.registration(),
            "careful": {**strict.registration(), "on_unknown": "reauthorize"},
        }
        servers = {"graceful": graceful, "strict": strict, "careful": strict}
        yield profiles, lambda user, profile: tokens_of(servers[profile], user, callback)


@pytest.fixture(scope="module", params=PROVIDERS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Three workers of one thread, whose claims end soon."""
    folder = tmp_path_factory.mktemp("doubt")
    with ExitStack() as stack:
        provider = fake() if request.param == "fake" else django(folder)
        profiles, tokens = stack.enter_context(provider)
        place = folder / "application"
        place.mkdir()
        seconds = {f"{name}_seconds": value for name, value in TIMING.items()}
        database = f"sqlite:///{folder}/grants.sqlite3"
        environment = settings(database, profiles, **seconds)
        server = gunicorn(APPLICATION, place, "--preload", workers=WORKERS, **environment)
        url = stack.enter_context(server)
        yield Place(url, database, Halter(place), tokens)


def stopped_with_the_answer(
    place: Place, visitor: Visitor, grant: str, profile: str
) -> tuple[Answer, Answer]:
    """Halt a worker that has read the answer, past its deadline; return what it and another one get."""
    page = f"/token/{profile}"
    place.halter.halt_at("answer_read", grant)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(visitor.get, page)
        place.halter.halted()
        over(PAST_THE_DEADLINE)
        other = visitor.get(page)
        place.halter.go()
        return first.result(), other


def test_one_replay_inside_the_grace_period(place: Place) -> None:
    """After deadline and settling another worker replays; the late winner is served as well."""
    visitor, grant = place.sign_in("one", "graceful")
    first, other = stopped_with_the_answer(place, visitor, grant, "graceful")
    assert (first.status, other.status) == (200, 200)
    assert place.lives(visitor, grant, "graceful")


def test_without_a_grace_period_the_refusal_comes_before_the_winners_save(place: Place) -> None:
    """A refused replay ends nothing: the row is open for the winner, whose own next redemption decides.

    Both providers have revoked the family here, so that redemption is refused and ends the grant. A provider
    that refuses only the spent token would take it.
    """
    visitor, grant = place.sign_in("none", "strict")
    first, other = stopped_with_the_answer(place, visitor, grant, "strict")
    assert (other.status, other.json["reason"]) == (401, "outcome_unknown")
    # Served as it was saved: nothing rotates a token set first that was saved after a refused replay.
    assert first.status == 200
    assert [each.verdict for each in place.history(grant)] == ["rotated", "refused"]
    assert not place.lives(visitor, grant, "strict")
    after = visitor.get("/token/strict")
    assert (after.status, after.json["reason"]) == (401, "refused")


def test_a_late_winner_saves_where_nobody_replays(place: Place) -> None:
    """Others are told that nobody knows; the answer that comes late is saved, and the session lives."""
    visitor, grant = place.sign_in("late", "careful")
    first, other = stopped_with_the_answer(place, visitor, grant, "careful")
    assert (other.status, other.json["reason"]) == (401, "outcome_unknown")
    assert first.status == 200
    assert place.lives(visitor, grant, "careful")


def test_two_late_winners(place: Place) -> None:
    """Two workers have an answer each and save them when both claims are over: the newest one's stays."""
    visitor, grant = place.sign_in("two", "graceful")
    page = "/token/graceful"
    with ThreadPoolExecutor(2) as threads:
        place.halter.halt_at("answer_read", grant)
        first = threads.submit(visitor.get, page)
        pids = [place.halter.halted()]
        os.kill(pids[0], signal.SIGSTOP)
        try:
            over(PAST_THE_DEADLINE)
            place.halter.halt_at("answer_read", grant)
            second = threads.submit(visitor.get, page)
            pids.append(eventually(place.halter.halted))
            over(PAST_THE_DEADLINE)
            place.halter.go()
        finally:
            os.kill(pids[0], signal.SIGCONT)
        answers = first.result(), second.result()
    assert len(set(pids)) == 2
    assert [answer.status for answer in answers] == [200, 200]
    assert [each.verdict for each in place.history(grant)][:2] == ["rotated", "rotated"]
    assert visitor.get(page).json["version"] >= 2
    assert place.lives(visitor, grant, "graceful")
