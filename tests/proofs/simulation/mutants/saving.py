"""Mutants of the rules about saving token sets and ending grants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from flask_tokenrotate.rotation.outcomes import SaveOutcome
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.rotation.unsaved import UnsavedTokenSets
from flask_tokenrotate.rotation.verdict import Effect, Refused
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .registry import breaks, replaced


@breaks("2: the newest claim's token set wins", "I2")
def save_unfenced() -> Iterator[None]:
    """Whoever saves last wins, however old its claim."""

    def make(original: Any) -> Any:
        def save(self: Any, seen: Any, claim: Claim, tokens: Any, **rest: Any) -> SaveOutcome:
            row = self.rows[claim.grant_id]
            if row.ended_at is None and row.token_version > claim.version:
                self._write(row, tokens=tokens, token_version=claim.version)
                return SaveOutcome.SAVED
            saved: SaveOutcome = original(self, seen, claim, tokens, **rest)
            return saved

        return save

    with replaced(MemoryGrantStore, "save", make):
        yield


@breaks("5: the late winner is welcome", "I2")
def save_fenced_by_whole_row() -> Iterator[None]:
    """A save is refused as soon as anything about the row has changed."""

    def make(original: Any) -> Any:
        def save(self: Any, seen: Any, claim: Claim, tokens: Any, **rest: Any) -> SaveOutcome:
            if self.rows[claim.grant_id].version != claim.version:
                return SaveOutcome.SUPERSEDED
            saved: SaveOutcome = original(self, seen, claim, tokens, **rest)
            return saved

        return save

    with replaced(MemoryGrantStore, "save", make):
        yield


@breaks("8: a rotated token is never dropped", "I2")
def unsaved_tokens_dropped() -> Iterator[None]:
    """What could not be saved is not kept."""
    with patch.object(UnsavedTokenSets, "_keep", lambda *_: None):
        yield


@breaks("8: the next process takes up what was rescued", "I1")
def rescue_ignored() -> Iterator[None]:
    """Nobody looks for the token set that another process could not save."""
    with patch.object(UnsavedTokenSets, "save_rescued_of", lambda *_: False):
        yield


@breaks("6: a refusal is believed only of the stored token set", "I3")
def refused_loser_ends_the_grant() -> Iterator[None]:
    """A holder that was refused ends the grant, whatever was saved meanwhile."""

    def make(original: Any) -> Any:
        return lambda self, grant_id, reason, **_: original(self, grant_id, reason)

    with replaced(MemoryGrantStore, "end", make):
        yield


@breaks("4: a refused replay proves only that the token was spent", "I2")
def refused_replay_ends_the_grant() -> Iterator[None]:
    """A replay that was refused ends the grant, though the first post's response may still be saved."""
    ends = replace(Refused.consequences, effect_of_replay=Effect.END)
    with patch.object(Refused, "consequences", ends):
        yield


@breaks("9: a redemption in flight never lands in the grant of a new sign-in", "I2", "I4")
def save_lands_in_the_users_newest_grant() -> Iterator[None]:
    """What a redemption brings goes to its user's living grant, whichever sign-in made that."""

    def make(original: Any) -> Any:
        def save(self: Any, seen: Any, claim: Claim, tokens: Any, **rest: Any) -> SaveOutcome:
            newest = self.find(seen.user_id, seen.provider) or claim.grant_id
            saved: SaveOutcome = original(self, seen, replace(claim, grant_id=newest), tokens, **rest)
            return saved

        return save

    with replaced(MemoryGrantStore, "save", make):
        yield
