"""Secrets stay secret, and a rotation keeps what the response left out."""

from __future__ import annotations

import copy
import logging
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_tokenrotate.rotation.tokens import Secret, TokenResponse, TokenSet, parse_scopes

CANARY = "canary-3f9b"


@pytest.mark.parametrize(
    "render",
    [repr, str, format, "{}".format, "{!r}".format, lambda secret: f"{secret:>40}", "%s".__mod__],
    ids=["repr", "str", "format", "braces", "braces r", "f-string with a width", "percent"],
)
def test_a_secret_does_not_print(render: object) -> None:
    """No way of turning a secret into text shows it."""
    assert CANARY not in render(Secret(CANARY))  # type: ignore[operator]


def test_a_token_set_does_not_print_its_secrets() -> None:
    """The repr of the values that carry secrets shows none of them."""
    secret = Secret(CANARY)
    response = TokenResponse(access_token=secret, refresh_token=secret, id_token=secret)
    assert CANARY not in repr(response)
    assert CANARY not in repr(response.token_set(now=0.0))


def test_a_secret_does_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Logging a secret, or a value that holds one, logs a placeholder."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("flask_tokenrotate").debug("%s %r", Secret(CANARY), {"token": Secret(CANARY)})
    assert "Secret(…)" in caplog.text
    assert CANARY not in caplog.text


def test_a_secret_cannot_be_pickled() -> None:
    """Nothing writes a secret into a session or a queue by accident."""
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(Secret(CANARY))
    assert CANARY not in str(caught.value)


def test_copies_of_a_secret_are_the_secret() -> None:
    """Copying what holds a secret works inside the process."""
    secret = Secret(CANARY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"token": secret})["token"] is secret


def test_secrets_compare_by_value_and_only_with_secrets() -> None:
    """Two secrets of one value are equal and hash alike; a secret never equals its text."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != "a"


def test_a_fingerprint_names_a_secret_without_revealing_it() -> None:
    """Fingerprints tell secrets apart and hold nothing of them."""
    assert Secret(CANARY).fingerprint() != Secret(CANARY + "x").fingerprint()
    assert CANARY not in Secret(CANARY).fingerprint()


def stored() -> TokenSet:
    return TokenSet(
        access_token=Secret("a0"),
        refresh_token=Secret("r0"),
        scopes=frozenset({"read"}),
        expires_at=100.0,
        lifetime=50.0,
        refresh_expires_at=900.0,
        id_token=Secret("i0"),
    )


def test_a_rotation_keeps_what_the_answer_left_out() -> None:
    """Refresh token and its expiry, scopes and ID token stay when the response has none."""
    rotated = stored().rotated(TokenResponse(access_token=Secret("a1"), expires_in=60.0), now=200.0)
    assert rotated == replace(stored(), access_token=Secret("a1"), expires_at=260.0, lifetime=60.0)


def test_a_rotation_takes_what_the_answer_has() -> None:
    """New values replace the stored ones, a narrower scope too."""
    response = TokenResponse(
        access_token=Secret("a1"),
        refresh_token=Secret("r1"),
        scopes=frozenset(),
        expires_in=60.0,
        refresh_expires_in=1000.0,
        id_token=Secret("i1"),
        token_type="DPoP",
    )
    assert stored().rotated(response, now=200.0) == response.token_set(now=200.0)


def test_a_new_refresh_token_does_not_inherit_the_expiry_of_the_old_one() -> None:
    """The stored refresh token's expiry says nothing about another refresh token."""
    response = TokenResponse(access_token=Secret("a1"), refresh_token=Secret("r1"))
    rotated = stored().rotated(response, now=200.0)
    assert rotated.refresh_expires_at is None
    assert rotated.expires_at is None


@pytest.mark.parametrize(
    ("value", "separators", "expected"),
    [
        ("a b", " ", {"a", "b"}),
        ("a,b c", ", ", {"a", "b", "c"}),
        ("a,b", " ", {"a,b"}),
        ("", " ", set()),
        (["a", "b"], " ", {"a", "b"}),
        (["a", 1], " ", None),
        (7, " ", None),
        (None, " ", None),
        (b"a b", " ", None),
        ({"a": 1}, " ", None),
    ],
)
def test_scopes_are_read_from_strings_and_lists(
    value: object, separators: str, expected: set[str] | None
) -> None:
    """What is neither a string nor a list of strings says nothing about scopes."""
    assert parse_scopes(value, separators) == (None if expected is None else frozenset(expected))


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_remaining_counts_down_to_the_expiry(now: float) -> None:
    """What remains is the distance to the expiry; without one it is endless."""
    assert stored().remaining(now) == 100.0 - now
    assert replace(stored(), expires_at=None).remaining(now) == float("inf")


def test_what_no_encoding_takes_compares_all_the_same() -> None:
    """JSON from outside can hold a lone surrogate: a comparison is still an response."""
    assert Secret("a\ud800") != Secret("b")
    assert Secret("a\ud800") == Secret("a\ud800")
    assert Secret("a\ud800").fingerprint()
