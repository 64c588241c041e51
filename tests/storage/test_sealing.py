"""Sealing: what opens, what does not, and what is never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from flask_tokenrotate.attempts import Attempt
from flask_tokenrotate.errors import ConfigurationError, GrantUnreadable
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.storage.attempts import SqlAttemptStore
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import attempts, grants
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.rows import binding, sealed_tokens
from flask_tokenrotate.storage.sealed.sealing import DoesNotOpen, Sealer, new_key, sealer_from

from .backends import RESPONSE, SEALER, claimed, loaded, new_grant, sql_stores, token_set

KEYS = [new_key() for _ in range(3)]
BOUND = ("grant", "id-1", "spotify", "ada", None)


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    """A database of its own."""
    opened = Database.from_uri("sqlite:///tokens.sqlite", folder=tmp_path)
    yield opened
    opened.engine().dispose()


@given(plain=st.binary(), bound_to=st.lists(st.none() | st.text()))
def test_what_is_sealed_opens_again(plain: bytes, bound_to: list[str | None]) -> None:
    """Any bytes, bound to anything, come back."""
    assert SEALER.open(SEALER.seal(plain, bound_to), bound_to) == plain


def test_sealing_twice_gives_two_values() -> None:
    """Equal tokens do not look equal in the database."""
    assert SEALER.seal(b"x", BOUND) != SEALER.seal(b"x", BOUND)


@pytest.mark.parametrize(
    "other",
    [
        ("grant", "id-2", "spotify", "ada", None),
        ("grant", "id-1", "github", "ada", None),
        ("grant", "id-1", "spotify", "bob", None),
        ("grant", "id-1", "spotify", "ada", "None"),
        ("grant", "id-1spotify", "", "ada", None),
        ("attempt", "id-1"),
    ],
)
def test_a_value_opens_only_where_it_was_sealed(other: tuple[str | None, ...]) -> None:
    """Moved to another grant, provider, user, subject or table it does not open."""
    with pytest.raises(DoesNotOpen):
        SEALER.open(SEALER.seal(b"x", BOUND), other)


@given(data=st.data())
def test_no_changed_byte_opens(data: st.DataObject) -> None:
    """A change of any byte of a sealed value, its header included, is noticed."""
    sealed = bytearray(SEALER.seal(b"token", BOUND))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DoesNotOpen):
        SEALER.open(bytes(sealed), BOUND)


@given(garbage=st.binary(max_size=60))
def test_garbage_does_not_open(garbage: bytes) -> None:
    """Whatever lies in the column, the error is ours."""
    with pytest.raises(DoesNotOpen):
        SEALER.open(garbage, BOUND)


@given(length=st.integers(0, 30))
def test_a_cut_value_does_not_open(length: int) -> None:
    """A value that was cut off anywhere is noticed."""
    with pytest.raises(DoesNotOpen):
        SEALER.open(SEALER.seal(b"a token", BOUND)[:length], BOUND)


# keys


def test_the_first_key_seals_and_all_open() -> None:
    """Keys are changed by putting a new one first; what the old one sealed still opens."""
    old, both = sealer_from([KEYS[0]], "s"), sealer_from([KEYS[1], KEYS[0]], "s")
    assert both.open(old.seal(b"x", BOUND), BOUND) == b"x"
    with pytest.raises(DoesNotOpen) as raised:
        old.open(both.seal(b"x", BOUND), BOUND)
    assert raised.value.sealed_with == both.fingerprints[0]


def test_a_key_may_lack_its_padding() -> None:
    """Base64 with and without the final equals sign is the same key."""
    assert sealer_from([KEYS[0].rstrip("=")], None).fingerprints == sealer_from([KEYS[0]], None).fingerprints


def test_keys_are_derived_from_the_secret_key_when_unset() -> None:
    """The same secret key opens in every process; its fallbacks open as well, another one does not."""
    sealed = sealer_from((), "secret").seal(b"x", BOUND)
    assert sealer_from((), b"secret").open(sealed, BOUND) == b"x"
    assert sealer_from((), "new", ["older", "secret"]).open(sealed, BOUND) == b"x"
    with pytest.raises(DoesNotOpen):
        sealer_from((), "new").open(sealed, BOUND)


def test_setting_encryption_keys_later_loses_nothing() -> None:
    """What a derived key sealed opens after the first encryption key was set; the new key seals."""
    sealed = sealer_from((), "secret").seal(b"x", BOUND)
    later = sealer_from([KEYS[0]], "secret")
    assert later.open(sealed, BOUND) == b"x"
    assert sealer_from([KEYS[0]], None).open(later.seal(b"y", BOUND), BOUND) == b"y"


def test_without_any_key_the_cure_is_named() -> None:
    """No secret key and no encryption keys: the message names both and the command. Fallbacks never seal."""
    with pytest.raises(ConfigurationError, match=r"SECRET_KEY.*flask tokenrotate new-key"):
        sealer_from((), None, ["old"])


@pytest.mark.parametrize(
    "bad",
    [
        "canary-key",
        base64.urlsafe_b64encode(b"c" * 31).decode(),
        base64.urlsafe_b64encode(b"c" * 33).decode(),
        KEYS[0][:-4] + "é",
    ],
)
def test_a_bad_key_is_named_by_its_position_only(bad: str) -> None:
    """The message tells which key and how to make one, and never shows it."""
    with pytest.raises(ConfigurationError, match=r"Key number 2.*flask tokenrotate new-key") as raised:
        sealer_from([KEYS[0], bad], "s")
    assert bad not in str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.parametrize("bad", [[b"x"], [17], ["", KEYS[0]]])
def test_keys_of_a_wrong_type_are_refused(bad: Any) -> None:
    """A list of something else than keys is a configuration error, not a crash."""
    with pytest.raises(ConfigurationError, match="Key number 1"):
        sealer_from(bad, "s")


def test_a_sealer_shows_no_key() -> None:
    """Neither its repr nor its attributes print a key."""
    sealer = sealer_from([KEYS[0]], "secret")
    assert KEYS[0] not in repr(sealer) + repr(vars(sealer))
    assert all(len(fingerprint) == 12 for fingerprint in sealer.fingerprints)


# rows


def test_no_token_lies_in_the_database_file(opened: Database, tmp_path: Path) -> None:
    """Neither tokens nor what an attempt holds can be read from the files; the ids can."""
    grant_store, attempt_store = sql_stores(opened)
    grant = grant_store.add(new_grant())
    grant_store.save(grant, claimed(grant_store, grant), token_set(1))
    attempt = Attempt(
        provider="p",
        verifier=Secret("the-verifier"),
        nonce=Secret("the-nonce"),
        redirect_uri="https://a.example/",
    )
    attempt_store.begin(Secret("the-state"), Secret("the-browser"), attempt, seconds=60)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert grant.id.encode() in stored
    secrets = ["access-0", "refresh-0", "id-0", "access-1", "refresh-1"]
    for secret in [*secrets, "the-verifier", "the-nonce", "the-state", "the-browser"]:
        assert secret.encode() not in stored


def test_a_row_sealed_with_an_unknown_key_names_the_keys(opened: Database) -> None:
    """The error tells the fingerprints: which key it takes, and which ones there are."""
    grant = SqlGrantStore(opened, SEALER).add(new_grant())
    other = sealer_from([KEYS[0]], None)
    with pytest.raises(GrantUnreadable) as raised:
        SqlGrantStore(opened, other).load(grant.id)
    assert raised.value.sealed_with == SEALER.fingerprints[0]
    assert raised.value.configured == other.fingerprints


@pytest.mark.parametrize("column", ["sealed", "user_id", "subject", "provider"])
def test_a_row_that_was_rearranged_does_not_open(opened: Database, column: str) -> None:
    """A token set copied from another grant, or a grant given to another user, is noticed."""
    store = SqlGrantStore(opened, SEALER)
    mine = store.add(new_grant())
    theirs = store.add(new_grant(user_id="eve", subject="s-2", provider="github"))
    with opened.engine().connect() as connection:
        stolen = connection.scalar(select(grants.c[column]).where(grants.c.id == mine.id))
        connection.execute(update(grants).where(grants.c.id == theirs.id).values({column: stolen}))
        connection.commit()
    with pytest.raises(GrantUnreadable, match="altered or copied"):
        store.load(theirs.id)
    assert loaded(store, mine.id).tokens.access_token == RESPONSE.access_token


WHOLE = {
    "access_token": "a-1",
    "refresh_token": "r-1",
    "token_type": "bearer",
    "scopes": ["x"],
    "id_token": None,
}
MALFORMED = {
    "no JSON": b"a-1",
    "not UTF-8": b"\xff",
    "nested too deep": b"[" * 100_000,
    "no object": b"[]",
    "a fact missing": json.dumps({key: WHOLE[key] for key in WHOLE if key != "id_token"}).encode(),
    "a number for a token": json.dumps({**WHOLE, "access_token": 1}).encode(),
    "no access token": json.dumps({**WHOLE, "access_token": None}).encode(),
    "scopes as text": json.dumps({**WHOLE, "scopes": "x"}).encode(),
    "a scope that is a list": json.dumps({**WHOLE, "scopes": [["x"]]}).encode(),
}


@pytest.mark.parametrize("how", ["whole", *MALFORMED])
def test_a_row_of_another_version_is_told_and_left(opened: Database, how: str) -> None:
    """What opens but has another shape is our error with key and cure, shows none of it, and stays."""
    store = SqlGrantStore(opened, SEALER)
    grant = store.add(new_grant())
    plain = MALFORMED.get(how, json.dumps(WHOLE).encode())
    sealed = SEALER.seal(plain, binding(grant.id, grant.provider, grant.user_id, grant.subject))
    with opened.engine().begin() as connection:
        connection.execute(update(grants).where(grants.c.id == grant.id).values(sealed=sealed))
    if how == "whole":
        assert loaded(store, grant.id).tokens.access_token == Secret("a-1")
        return
    with pytest.raises(GrantUnreadable, match="not written by this version") as raised:
        store.load(grant.id)
    assert raised.value.sealed_with == SEALER.fingerprints[0]
    assert "a-1" not in str(raised.value)
    with opened.engine().connect() as connection:
        assert connection.scalar(select(grants.c.sealed).where(grants.c.id == grant.id)) == sealed


def test_a_grant_that_does_not_open_can_still_be_ended(opened: Database) -> None:
    """Signing out needs no key, and the next sign-in replaces the grant."""
    grant = SqlGrantStore(opened, SEALER).add(new_grant())
    store = SqlGrantStore(opened, sealer_from([KEYS[0]], None))
    store.add(new_grant(), replaces=grant.id)
    assert not store.end(grant.id, "signed_out")


def test_an_attempt_that_does_not_open_is_unknown_and_not_used_up(opened: Database) -> None:
    """The keys were changed while the user was at the provider: signing in starts again."""
    attempt = Attempt(
        provider="p", verifier=Secret("v"), nonce=Secret("n"), redirect_uri="https://a.example/"
    )
    SqlAttemptStore(opened, SEALER).begin(Secret("s"), Secret("b"), attempt, seconds=60)
    other = SqlAttemptStore(opened, sealer_from([KEYS[0]], None))
    assert other.take(Secret("s"), Secret("b")) == "unknown_state"
    with opened.engine().connect() as connection:
        assert connection.scalar(select(attempts.c.used_at)) is None
    assert SqlAttemptStore(opened, SEALER).take(Secret("s"), Secret("b")) == attempt


def test_what_is_sealed_is_json_of_known_names() -> None:
    """The format, so that other versions of this package can be written against it."""
    sealer = Sealer([b"k" * 32])
    facts = json.loads(sealer.open(sealed_tokens(sealer, token_set(1), BOUND), BOUND))
    assert facts == {
        "access_token": "access-1",
        "refresh_token": "refresh-1",
        "token_type": "Bearer",
        "scopes": ["read"],
        "id_token": None,
    }
