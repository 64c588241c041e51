"""`decide`, from the table in its module's docstring."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_tokenrotate.rotation import protocol
from flask_tokenrotate.rotation.protocol import (
    MAX_POSTS,
    ClaimAndRedeem,
    Decision,
    Freshness,
    InDoubt,
    Policy,
    SignIn,
    Unavailable,
    Use,
    UseAndRotateAhead,
    Wait,
    decide,
    freshness,
)
from flask_tokenrotate.rotation.tokens import Claim, Grant, Secret, StandingClaim, TokenSet

NOW = 10_000.0
LIFETIME = 3600.0
REPLAY = Policy(min_ttl=30.0, ahead=300.0, on_unknown="replay", settle=2.0)
REAUTHORIZE = replace(REPLAY, on_unknown="reauthorize")

REMAINING = {"fresh": 3000.0, "ahead": 100.0, "stale": 10.0, "expired": -1.0}


def table_lines() -> dict[int, tuple[str, str, str, str]]:
    """Read the state table: grant, token, row and decision by line number."""
    text = protocol.__doc__ or ""
    columns = next(line for line in text.splitlines() if line.startswith("===="))
    edges = [match.span() for match in re.finditer("=+", columns)]
    lines = {}
    for line in text.splitlines():
        if re.match(r" ?\d+ ", line):
            number, *cells = [line[start : None if end == edges[-1][1] else end] for start, end in edges]
            grant, token, row, decision = (cell.strip() for cell in cells)
            lines[int(number)] = (grant, token, row, decision)
    return lines


TABLE = table_lines()


def a_grant(remaining: float = -1.0, **changes: object) -> Grant:
    """A grant whose access token lives for ``remaining`` seconds more."""
    tokens = TokenSet(
        access_token=Secret("access"),
        refresh_token=Secret("refresh"),
        expires_at=NOW + remaining,
        lifetime=LIFETIME,
    )
    return replace(Grant(id="g", provider="p", tokens=tokens, seen_at=NOW), **changes)  # type: ignore[arg-type]


def standing(deadline: float, *, redeems: int = 0) -> StandingClaim:
    """A claim that stands until ``deadline`` seconds from now."""
    claim = Claim(id="c", grant_id="g", version=1, redeems=redeems)
    return StandingClaim(claim=claim, holder="h", taken_at=NOW - 5.0, deadline=NOW + deadline)


def without_refresh_token(grant: Grant) -> Grant:
    return replace(grant, tokens=replace(grant.tokens, refresh_token=None))


def with_refresh_expiry(grant: Grant, seconds: float) -> Grant:
    return replace(grant, tokens=replace(grant.tokens, refresh_expires_at=NOW + seconds))


REDEEMABLE = {
    "free": (a_grant(), REPLAY, 0),
    "free, reauthorize": (a_grant(), REAUTHORIZE, 0),
    "retry_at is now": (a_grant(retry_at=NOW, failures=3), REPLAY, 0),
    "one doubt": (a_grant(doubts=1), REPLAY, 1),
    "claim expired and settled": (a_grant(standing=standing(-2.0)), REPLAY, 1),
    "obsolete claim": (a_grant(token_version=1, standing=standing(0.0, redeems=0)), REAUTHORIZE, 0),
    "refresh token lives a tick": (with_refresh_expiry(a_grant(), 0.001), REPLAY, 0),
}
BLOCKED = {
    "no refresh token": (without_refresh_token(a_grant()), REPLAY),
    "refresh token expires now": (with_refresh_expiry(a_grant(), 0.0), REPLAY),
    "doubt, reauthorize": (a_grant(doubts=1), REAUTHORIZE),
    "two doubts": (a_grant(doubts=2), REPLAY),
    "claim expired, reauthorize": (a_grant(standing=standing(0.0)), REAUTHORIZE),
    "claim expired after a doubt": (a_grant(doubts=1, standing=standing(-60.0)), REPLAY),
    "claim at its deadline": (a_grant(standing=standing(0.0)), REPLAY),
    "a tick before settled": (a_grant(standing=standing(-1.999)), REPLAY),
    "retry_at a tick ahead": (a_grant(retry_at=NOW + 0.001, failure="busy"), REPLAY),
}
STANDING = {
    "claim stands": (a_grant(standing=standing(5.0)), REPLAY),
    "a tick before its deadline": (a_grant(standing=standing(0.001)), REPLAY),
    "obsolete claim stands": (a_grant(token_version=1, standing=standing(1.0)), REPLAY),
}


def cases() -> list[object]:
    """Every case with the line of the table that it belongs to."""
    found: list[object] = []

    def add(line: int, name: str, grant: Grant, policy: Policy, decision: Decision) -> None:
        token = TABLE[line][1]
        for kind in REMAINING if token == "any" else [token]:
            expires_at = NOW + REMAINING[kind]
            aged = replace(grant, tokens=replace(grant.tokens, expires_at=expires_at))
            found.append(pytest.param(line, aged, policy, decision, id=f"line {line}: {kind}, {name}"))

    for reason in ("signed_out", "replaced", "refused"):
        add(1, reason, a_grant(end_reason=reason, ended_at=NOW), REPLAY, SignIn(reason))
    for name, (grant, policy, doubts) in REDEEMABLE.items():
        add(2, name, grant, policy, Use())
        add(3, name, grant, policy, UseAndRotateAhead(doubts))
        add(5, name, grant, policy, ClaimAndRedeem(doubts))
        add(8, name, grant, policy, ClaimAndRedeem(doubts))
    for name, (grant, policy) in BLOCKED.items():
        for line in (2, 4, 7):
            add(line, name, grant, policy, Use())
    for name, (grant, policy) in STANDING.items():
        assert grant.standing is not None
        add(4, name, grant, policy, Use())
        for line in (6, 9):
            add(line, name, grant, policy, Wait(grant.standing))
    for name in ("no refresh token", "refresh token expires now"):
        add(10, name, *BLOCKED[name], SignIn("no_refresh_token"))
    for name in (
        "doubt, reauthorize",
        "two doubts",
        "claim expired, reauthorize",
        "claim expired after a doubt",
    ):
        add(11, name, *BLOCKED[name], SignIn("outcome_unknown"))
    add(12, "at its deadline", *BLOCKED["claim at its deadline"], InDoubt(NOW + 2.0))
    add(12, "a tick before settled", *BLOCKED["a tick before settled"], InDoubt(NOW - 1.999 + 2.0))
    grant, policy = BLOCKED["retry_at a tick ahead"]
    assert grant.retry_at is not None
    add(13, "retry_at a tick ahead", grant, policy, Unavailable(grant.retry_at - NOW, "busy"))
    return found


CASES = cases()


@pytest.mark.parametrize(("line", "grant", "policy", "decision"), CASES)
def test_each_line_of_the_table_decides_as_it_says(
    line: int, grant: Grant, policy: Policy, decision: Decision
) -> None:
    """A row of this kind leads to exactly this decision, and the table names its kind."""
    assert TABLE[line][3].startswith(type(decision).__name__)
    assert decide(grant, NOW, policy) == decision


def test_each_line_of_the_table_has_a_case() -> None:
    """No line of the table goes untested, and no case names a line that is not there."""
    assert {case.values[0] for case in CASES} == set(TABLE)  # type: ignore[attr-defined]
    assert sorted(TABLE) == list(range(1, 14))


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [
        (0.0, Freshness.EXPIRED),
        (0.001, Freshness.STALE),
        (29.999, Freshness.STALE),
        (30.0, Freshness.AHEAD),
        (329.999, Freshness.AHEAD),
        (330.0, Freshness.FRESH),
    ],
)
def test_freshness_changes_at_its_edges(remaining: float, expected: Freshness) -> None:
    """Each margin is half open: at its edge the token is already fresher."""
    assert freshness(a_grant(remaining).tokens, NOW, REPLAY) is expected


def test_a_token_without_a_known_expiry_is_fresh() -> None:
    """A token whose expiry the provider did not tell is used until somebody refuses it."""
    tokens = TokenSet(access_token=Secret("access"))
    assert freshness(tokens, NOW, REPLAY) is Freshness.FRESH


seconds = st.floats(-100.0, 100.0)
grants = st.builds(
    lambda remaining, lifetime, refresh, doubts, deadline, redeems, token_version, retry, end: Grant(
        id="g",
        provider="p",
        seen_at=NOW,
        tokens=TokenSet(
            access_token=Secret("access"),
            refresh_token=Secret("refresh") if refresh else None,
            expires_at=None if remaining is None else NOW + remaining,
            lifetime=lifetime,
            refresh_expires_at=None if refresh in (None, True) else NOW + refresh,
        ),
        token_version=token_version,
        doubts=doubts,
        standing=None if deadline is None else standing(deadline, redeems=redeems),
        retry_at=None if retry is None else NOW + retry,
        end_reason=end,
    ),
    remaining=st.none() | seconds,
    lifetime=st.none() | st.floats(-5.0, 500.0),
    refresh=st.none() | st.just(True) | seconds,
    doubts=st.integers(0, 3),
    deadline=st.none() | seconds,
    redeems=st.integers(0, 2),
    token_version=st.integers(0, 2),
    retry=st.none() | seconds,
    end=st.sampled_from([None, None, None, "refused"]),
)
policies = st.builds(
    Policy,
    min_ttl=st.floats(0.0, 1000.0),
    ahead=st.floats(0.0, 1000.0),
    on_unknown=st.sampled_from(["replay", "reauthorize"]),
    settle=st.floats(0.0, 10.0),
)


@given(grants, policies)
def test_decide_is_total_and_careful(grant: Grant, policy: Policy) -> None:
    """Any row has a decision, and none posts or uses a token against the rules."""
    decision = decide(grant, NOW, policy)
    if isinstance(decision, ClaimAndRedeem | UseAndRotateAhead):
        posts = MAX_POSTS if policy.on_unknown == "replay" else 1
        assert decision.doubts < posts
        assert grant.doubts <= decision.doubts
        assert grant.standing is None or grant.standing.deadline <= NOW
        assert grant.tokens.refresh_token is not None
        assert grant.retry_at is None or grant.retry_at <= NOW
    if isinstance(decision, Use | UseAndRotateAhead):
        assert grant.tokens.remaining(NOW) > 0
    if grant.end_reason is not None:
        assert decision == SignIn(grant.end_reason)


@given(st.floats(0.1, 10_000.0), policies)
def test_a_lifetime_shorter_than_the_margins_does_not_rotate_on_each_request(
    lifetime: float, policy: Policy
) -> None:
    """A token that was just issued is used, however short it lives and however wide the margins."""
    tokens = replace(a_grant().tokens, lifetime=lifetime, expires_at=NOW + lifetime)
    assert decide(replace(a_grant(), tokens=tokens), NOW, policy) == Use()


def test_without_the_caps_a_short_lifetime_would_rotate_on_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: without the cap a new token of 10 s is stale at once."""
    monkeypatch.setattr(protocol, "MIN_TTL_SHARE", 3.0)
    tokens = replace(a_grant().tokens, lifetime=10.0, expires_at=NOW + 10.0)
    assert decide(replace(a_grant(), tokens=tokens), NOW, REPLAY) == ClaimAndRedeem()
