"""Workers killed and stopped, a provider that is down, a sign-out in between: with real processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from flask_tokenrotate.testing import FakeProvider
from flask_tokenrotate.testing.provider.knobs import Knobs
from tests.servers.fake_provider import requests_under_way
from tests.servers.processes import kill, stopped
from tests.servers.rows import grant_row, verdicts
from tests.servers.sabotage import (
    FORGET_FAILURES,
    LEAVE_NEW_TOKENS_ALIVE,
    POST_ANY_TIME,
    REFUSE_LATE_WINNERS,
    STOP_AFTER_CLAIM,
    turned_on,
)
from tests.servers.visitors import Answer, Visitor, eventually, wave

from .place import Place, application

OTHERS = 3


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place where claims end soon, so that no test has to wait long for it."""
    timing = {"connect": 1, "redeem": 1.2, "claim": 1.6, "settle": 0.2, "wait": 8}
    seconds = {f"{name}_seconds": value for name, value in timing.items()}
    with application(tmp_path_factory.mktemp("hasty"), workers=OTHERS + 1, **seconds) as place:
        yield place


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with the default settings."""
    with application(tmp_path_factory.mktemp("patient"), workers=2) as place:
        yield place


@pytest.fixture(autouse=True)
def clean_slate(request: pytest.FixtureRequest) -> None:
    """Forget what the tests before did at the provider."""
    for name in {"hasty", "patient"} & set(request.fixturenames):
        provider = request.getfixturevalue(name).provider
        provider.turn(**Knobs().positions())
        provider.clear_log()


# A worker is killed


def kill_the_holder(place: Place, profile: str) -> list[Answer]:
    """Kill the worker whose redemption the provider has just carried out; return what the others get."""
    visitor, grant = place.visitor(profile)
    with place.provider.hold("processed") as gate, ThreadPoolExecutor() as threads:
        lost = threads.submit(visitor.get, f"/token/{profile}")
        gate.wait_for(1)
        kill(place.holder(grant))
        others = [threads.submit(visitor.get, f"/token/{profile}") for _ in range(OTHERS)]
        gate.open()
        assert lost.result().status == 0
        return [other.result() for other in others]


def test_after_a_kill_the_others_recover_by_a_replay(hasty: Place) -> None:
    """At a provider with grace the killed worker's token set is fetched once more, by one worker."""
    hasty.provider.grace_seconds = 20
    others = kill_the_holder(hasty, "graceful")
    assert [other.status for other in others] == [200] * OTHERS
    assert hasty.provider.outcomes() == {"rotated": 1, "repeated": 1}


@pytest.mark.long
def test_after_a_kill_nothing_is_replayed_where_the_profile_forbids_it(hasty: Place) -> None:
    """With ``on_unknown="reauthorize"`` the others are told what is known, and nobody posts again."""
    others = kill_the_holder(hasty, "reauthorize")
    assert {(other.status, other.json["reason"]) for other in others} == {(401, "outcome_unknown")}
    assert hasty.provider.outcomes() == {"rotated": 1}


@pytest.mark.long
def test_a_replay_without_grace_costs_the_family(hasty: Place) -> None:
    """The control: what the policy ``reauthorize`` saves the user from at a strict provider.

    A refused replay shows that the token was spent, not that nobody has the answer: so it is called unknown,
    and the row stays open for a late winner.
    """
    others = kill_the_holder(hasty, "strict")
    assert {(other.status, other.json["reason"]) for other in others} == {(401, "outcome_unknown")}
    assert hasty.provider.outcomes() == {"rotated": 1, "reused": 1}


# A worker is stopped and goes on


def stall_after_the_claim(place: Place) -> tuple[Answer, list[Answer]]:
    """Stop a worker that has won the claim until the others have redeemed; return what it and they get."""
    visitor, grant = place.visitor("strict")
    with turned_on(place.folder, STOP_AFTER_CLAIM), ThreadPoolExecutor() as threads:
        stalled = threads.submit(visitor.get, "/token/strict")
        with stopped(eventually(lambda: place.stopped_holder(grant))):
            others = wave([visitor], OTHERS, "/token/strict")
        response = stalled.result()
    # The request has its token from the others; what its holder does goes on behind it.
    eventually(lambda: None not in verdicts(place.database, grant))
    return response, others


def test_a_stalled_holder_does_not_post_outside_its_claim(hasty: Place) -> None:
    """A worker that wakes up after its claim's deadline posts nothing and uses what the others have got."""
    stalled, others = stall_after_the_claim(hasty)
    assert {answer.status for answer in [stalled, *others]} == {200}
    assert len({answer.json["version"] for answer in [stalled, *others]}) == 1
    assert hasty.provider.outcomes() == {"rotated": 1}


@pytest.mark.long
def test_a_stalled_holder_that_posts_would_cost_the_family(hasty: Place) -> None:
    """The control: a holder that does not look at its deadline presents a token that is spent."""
    with turned_on(hasty.folder, POST_ANY_TIME):
        stall_after_the_claim(hasty)
        # The post is a rotation thread's, and goes on when its request has got the others' token.
        eventually(lambda: hasty.provider.outcomes() == {"rotated": 1, "reused": 1})


def answer_too_late(place: Place) -> tuple[Answer, Answer]:
    """Stop a worker past its deadline while it is answered; return what it gets, and a request after it."""
    visitor, grant = place.visitor("reauthorize")
    with place.provider.hold("processed") as gate, ThreadPoolExecutor() as threads:
        late = threads.submit(visitor.get, "/token/reauthorize")
        gate.wait_for(1)
        with stopped(place.holder(grant)):
            others = wave([visitor], OTHERS, "/token/reauthorize")
            assert {(other.status, other.json["reason"]) for other in others} == {(401, "outcome_unknown")}
            gate.open()
            eventually(lambda: not requests_under_way())
        return late.result(), visitor.get("/token/reauthorize")


def test_a_late_winner_is_saved(hasty: Place) -> None:
    """An answer that is read after everybody has given it up is saved, and the session lives."""
    late, after = answer_too_late(hasty)
    assert (late.status, after.status) == (200, 200)
    assert hasty.provider.outcomes() == {"rotated": 1}


@pytest.mark.long
def test_a_late_winner_that_is_not_saved_costs_the_session(hasty: Place) -> None:
    """The control: a save that insists on a standing claim drops the only living token set."""
    with turned_on(hasty.folder, REFUSE_LATE_WINNERS):
        late, after = answer_too_late(hasty)
    assert (late.status, after.status) == (401, 401)


# The provider is down


def calls_at_most(seconds: float) -> int:
    """Return how often one grant may ask a provider that fails for so long, with the shortest jitter."""
    calls, passed, pause = 1, 0.0, 0.75
    while passed + pause < seconds:
        calls, passed, pause = calls + 1, passed + pause, pause * 2
    return calls


def calls_for_each_user(provider: FakeProvider) -> Counter[str | None]:
    """Return how many token requests the provider has turned away."""
    return Counter(entry.user for entry in provider.log if entry.outcome == "failed")


def traffic(visitors: list[Visitor], seconds: float) -> list[tuple[Answer, ...]]:
    """Send requests of all visitors for so long; return what each of them gets."""
    rounds = []
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        rounds.append(wave(visitors, 1, "/token/strict"))
    return list(zip(*rounds, strict=True))


@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.long)])
def test_an_outage_costs_no_session_and_few_calls(patient: Place, seconds: int) -> None:
    """While the provider is down, living tokens are served, else 503, for a few calls; then all goes on."""
    dead = [patient.visitor("strict", user=f"dead{number}")[0] for number in range(2)]
    # Fresh at first, then in the ahead window, then stale, and alive to the end of the outage.
    living = patient.visitor("strict", user="living", expires_in=1.5 * seconds)[0]
    patient.provider.turn(outage=True, retry_after=0)
    *unserved, served = traffic([*dead, living], seconds)
    calls = calls_for_each_user(patient.provider)
    patient.provider.outage = False
    assert {answer.status for answer in served} == {200}
    for answers in unserved:
        assert {answer.status for answer in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert set(calls) == {"dead0", "dead1", "living"}
    assert max(calls.values()) <= calls_at_most(seconds) < len(served)
    eventually(lambda: {visitor.get("/token/strict").status for visitor in dead} == {200})
    assert patient.provider.double_presentations() == {}


def test_an_outage_that_nobody_remembers_costs_many_calls(patient: Place) -> None:
    """The control: without the memory of failures one request asks the provider on and on."""
    visitor, _ = patient.visitor("strict", user="dead")
    patient.provider.outage = True
    with turned_on(patient.folder, FORGET_FAILURES), ThreadPoolExecutor() as threads:
        request = threads.submit(visitor.get, "/token/strict")
        eventually(lambda: calls_for_each_user(patient.provider)["dead"] > calls_at_most(10), seconds=10)
        patient.provider.outage = False
        assert request.result().status == 200


@pytest.mark.long
def test_waiters_in_all_processes_share_one_failure(patient: Place) -> None:
    """Nobody tries in turn: sixteen requests that meet a provider which fails slowly cost it one call."""
    visitor, _ = patient.visitor("strict", user="dead")
    patient.provider.turn(outage=True, retry_after=0, response_seconds=0.5)
    answers = wave([visitor], 16, "/token/strict")
    assert {answer.status for answer in answers} == {503}
    assert calls_for_each_user(patient.provider)["dead"] == 1


# The user signs out in between


def sign_out_in_between(place: Place, user: str) -> tuple[Answer, Visitor]:
    """Sign out while a redemption is under way and the provider refuses to revoke anything.

    Returns what the request gets that redeemed, and the visitor with the cookie of before.
    """
    visitor, grant = place.visitor("strict", user=user)
    before = replace(visitor)
    with place.provider.hold("processed") as gate, ThreadPoolExecutor() as threads:
        late = threads.submit(before.get, "/token/strict")
        gate.wait_for(1)
        place.provider.outage = True
        assert visitor.post("/auth/strict/logout").status == 204
        place.provider.outage = False
        gate.open()
        answer = late.result()
    assert grant_row(place.database, grant).end_reason == "signed_out"
    assert visitor.get("/token/strict").status == 401
    return answer, before


def test_a_sign_out_during_a_redemption_leaves_nothing_usable(patient: Place) -> None:
    """What the redemption brings is revoked, not saved; no cookie, new or old, gets a token."""
    answer, before = sign_out_in_between(patient, "alice")
    assert (answer.status, answer.json["reason"]) == (401, "signed_out")
    assert before.get("/token/strict").status == 401
    assert patient.provider.outcomes() == {"rotated": 1, "failed": 2, "revoked": 2}
    assert patient.provider.live_tokens("alice") == 0


def test_tokens_that_come_after_the_sign_out_would_live_on(patient: Place) -> None:
    """The control: nobody else knows the tokens that a redemption in flight brings."""
    with turned_on(patient.folder, LEAVE_NEW_TOKENS_ALIVE):
        sign_out_in_between(patient, "bob")
    assert patient.provider.live_tokens("bob") > 0
