"""Mutants of the rules about sign-outs and new sign-ins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from flask_tokenrotate.rotation.cache import GrantCache
from flask_tokenrotate.rotation.looks import Looks
from flask_tokenrotate.rotation.memo import RequestMemo
from flask_tokenrotate.rotation.outcomes import SaveOutcome
from flask_tokenrotate.rotation.revocation import Revocation
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .registry import breaks, replaced


@breaks("9: sign-out wins over a late save", "I5")
def late_save_revives() -> Iterator[None]:
    """A save does not look at whether the grant has ended."""

    def make(original: Any) -> Any:
        def save(self: Any, seen: Any, claim: Claim, tokens: Any, **rest: Any) -> SaveOutcome:
            row = self.rows[claim.grant_id]
            if row.ended_at is not None:
                self._write(row, tokens=tokens, token_version=claim.version, ended_at=None, end_reason=None)
                return SaveOutcome.SAVED
            saved: SaveOutcome = original(self, seen, claim, tokens, **rest)
            return saved

        return save

    with replaced(MemoryGrantStore, "save", make):
        yield


@breaks("9: tokens that come after the sign-out are revoked", "I2", "I5")
def late_tokens_not_revoked() -> Iterator[None]:
    """A redemption that finds its grant signed out throws its tokens away."""
    with patch.object(Revocation, "revoke_if_signed_out", lambda *_: None):
        yield


@breaks("9: sign-out drops what this process remembers", "I5")
def cache_survives_sign_out() -> Iterator[None]:
    """The cache goes on with a grant that was signed out here."""
    with patch.object(GrantCache, "forget", lambda *_: None):
        yield


@breaks("9: a read from before the sign-out is not cached after it", "I5")
def cache_put_without_epoch() -> Iterator[None]:
    """A thread that read the row before the sign-out brings it back into the cache."""

    def make(original: Any) -> Any:
        return lambda self, seen, epoch: original(self, seen, self.epoch)

    with replaced(GrantCache, "put", make):
        yield


@breaks("9: a look from before the sign-out is not joined after it", "I5")
def look_joined_after_sign_out() -> Iterator[None]:
    """A request that comes after the sign-out gets what an older one had read."""
    with patch.object(Looks, "forget", lambda *_: None):
        yield


@breaks("9: a sign-in ends the grant that it replaces", "I5")
def replaced_grant_lives_on() -> Iterator[None]:
    """The grant of the former sign-in goes on giving tokens."""

    def make(original: Any) -> Any:
        return lambda self, new, *, replaces=None: original(self, new)

    with replaced(MemoryGrantStore, "add", make):
        yield


@breaks("9: an unsaved token is revoked only when its user ended the grant", "I3")
def unsaved_tokens_always_revoked() -> Iterator[None]:
    """A redemption that finds its grant replaced or refused revokes what it brought."""

    def revoke(self: Any, grant_id: str, tokens: Any) -> None:
        self.revoke(self._store.load(grant_id), tokens)

    with patch.object(Revocation, "revoke_if_signed_out", revoke):
        yield


@breaks("15: the memo is dropped on sign-in and sign-out", "I5")
def memo_survives_sign_out() -> Iterator[None]:
    """A request that signed its user out goes on with the token that it has."""
    with patch.object(RequestMemo, "forget", lambda self: None):
        yield
