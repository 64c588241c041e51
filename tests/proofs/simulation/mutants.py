"""The protocol with one rule broken each: what the simulator must be able to see.

A mutant is a context manager that patches the code under test. `MUTANTS` lists each with the rule of
the protocol that it breaks and the invariants by which the simulator may notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from flask_tokenrotate.errors import SignInRequired
from flask_tokenrotate.rotation import protocol, redeemer, rotator
from flask_tokenrotate.rotation.breaker import Breaker
from flask_tokenrotate.rotation.cache import GrantCache
from flask_tokenrotate.rotation.flights import Flights
from flask_tokenrotate.rotation.memo import RequestMemo
from flask_tokenrotate.rotation.ports import Overtaken, SaveOutcome
from flask_tokenrotate.rotation.redeemer import Redeemer
from flask_tokenrotate.rotation.rescue import Rescuer
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.testing.memory import MemoryGrantStore


@dataclass(frozen=True)
class Mutant:
    """One broken rule; ``seen_as`` are the invariants that its damage may violate first."""

    name: str
    rule: str
    seen_as: frozenset[str]
    apply: Callable[[], AbstractContextManager[Any]]


MUTANTS: list[Mutant] = []


def breaks(rule: str, *seen_as: str) -> Callable[[Callable[[], Iterator[None]]], None]:
    """Register the decorated generator as a mutant that breaks ``rule``."""

    def register(function: Callable[[], Iterator[None]]) -> None:
        MUTANTS.append(Mutant(function.__name__, rule, frozenset(seen_as), contextmanager(function)))

    return register


def _replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> AbstractContextManager[Any]:
    """Patch ``owner.name`` with what ``make`` returns for the original."""
    return patch.object(owner, name, make(getattr(owner, name)))


def _pretended(row: Any, redeems: int) -> Claim:
    return Claim(id="pretended", grant_id=row.id, version=row.version + 1, redeems=redeems)


WITHOUT_SLOTS = ("expired_claim_is_free", "replay_unlimited", "doubts_forgotten_by_claims")
"""Mutants for which the ledger's slots are switched off: with them nobody posts twice all the same."""


def without_slots() -> AbstractContextManager[Any]:
    """Let the ledger take any number of redemptions of one refresh token."""
    return patch.object(MemoryGrantStore, "_slot_is_refused", lambda *_: False)


@breaks("1: claim before redeem", "I1")
def claim_skipped() -> Iterator[None]:
    """Whoever wants to redeem does, without a word to the others."""

    def try_claim(self: Any, seen: Any, **_: Any) -> Claim:
        return _pretended(self.rows[seen.id], seen.token_version)

    with patch.object(MemoryGrantStore, "try_claim", try_claim):
        yield


@breaks("1: losers never post", "I1")
def losers_post() -> Iterator[None]:
    """Who loses the claim redeems all the same."""

    def make(original: Any) -> Any:
        def try_claim(self: Any, seen: Any, **rest: Any) -> Claim:
            won = original(self, seen, **rest)
            return won if isinstance(won, Claim) else _pretended(self.rows[seen.id], seen.token_version)

        return try_claim

    with _replaced(MemoryGrantStore, "try_claim", make):
        yield


@breaks("4: an expired claim is in doubt, not free", "I1")
def expired_claim_is_free() -> Iterator[None]:
    """After its deadline a claim counts as never taken."""

    def make(original: Any) -> Any:
        def obstacle(grant: Any, now: float, policy: Any) -> Any:
            standing = grant.standing
            if standing is not None and now >= standing.deadline:
                grant = replace(grant, standing=None)
            return original(grant, now, policy)

        return obstacle

    with without_slots(), _replaced(protocol, "_obstacle", make):
        yield


@breaks("4: a replay comes after the deadline and a settling time", "I1")
def replays_without_settling() -> Iterator[None]:
    """The replay comes at the deadline itself."""

    def make(original: Any) -> Any:
        return lambda grant, now, policy: original(grant, now, replace(policy, settle=0.0))

    with _replaced(protocol, "_obstacle", make):
        yield


@breaks("4: at most one replay", "I1")
def replay_unlimited() -> Iterator[None]:
    """A provider that allows a replay is sent any number."""

    def may_post_again(doubts: int, policy: protocol.Policy) -> bool:
        return doubts < 1 or policy.on_unknown == "replay"

    with without_slots(), ExitStack() as stack:
        for module in (protocol, redeemer):
            stack.enter_context(patch.object(module, "may_post_again", may_post_again))
        yield


@breaks("4: the attempts are counted on the row", "I1")
def doubts_forgotten_by_claims() -> Iterator[None]:
    """A claim does not write down how many attempts came before it."""

    def make(original: Any) -> Any:
        return lambda self, seen, *, doubts, **rest: original(self, seen, doubts=0, **rest)

    with without_slots(), _replaced(MemoryGrantStore, "try_claim", make):
        yield


@breaks("4: an outcome that is unknown is written as in doubt", "I1")
def doubts_forgotten_by_releases() -> Iterator[None]:
    """A holder that got no answer releases its claim as if nothing had been sent."""

    def make(original: Any) -> Any:
        return lambda self, claim, how: original(self, claim, replace(how, in_doubt=False))

    with _replaced(MemoryGrantStore, "release", make):
        yield


@breaks("4: a holder posts only inside its claim", "I1")
def posts_outside_its_claim() -> Iterator[None]:
    """The holder does not look at its deadline before it posts."""

    def make(original: Any) -> Any:
        return lambda self, grant, claimed_at, now: original(self, grant, now, now)

    with _replaced(Redeemer, "_post", make):
        yield


@breaks("2: the newest claim's token set wins", "I2")
def save_unfenced() -> Iterator[None]:
    """Whoever saves last wins, however old its claim."""

    def make(original: Any) -> Any:
        def save(self: Any, seen: Any, claim: Claim, tokens: Any, **rest: Any) -> SaveOutcome:
            row = self.rows[claim.grant_id]
            if row.ended_at is None and row.token_version > claim.version:
                self._write(row, tokens=tokens, token_version=claim.version)
                return SaveOutcome.SAVED
            return original(self, seen, claim, tokens, **rest)

        return save

    with _replaced(MemoryGrantStore, "save", make):
        yield


@breaks("5: the late winner is welcome", "I2")
def save_fenced_by_whole_row() -> Iterator[None]:
    """A save is refused as soon as anything about the row has changed."""

    def make(original: Any) -> Any:
        def save(self: Any, seen: Any, claim: Claim, tokens: Any, **rest: Any) -> SaveOutcome:
            if self.rows[claim.grant_id].version != claim.version:
                return SaveOutcome.SUPERSEDED
            return original(self, seen, claim, tokens, **rest)

        return save

    with _replaced(MemoryGrantStore, "save", make):
        yield


@breaks("8: a rotated token is never dropped", "I2")
def unsaved_tokens_dropped() -> Iterator[None]:
    """What could not be saved is not kept."""
    with patch.object(Redeemer, "_remember", lambda *_: None):
        yield


@breaks("8: the next process takes up what was rescued", "I1")
def rescue_ignored() -> Iterator[None]:
    """Nobody looks for the token set that another process could not save."""
    with patch.object(Rescuer, "take_up_for", lambda *_: False):
        yield


@breaks("6: a refusal is believed only of the stored token set", "I3")
def refused_loser_ends_the_grant() -> Iterator[None]:
    """A holder that was refused ends the grant, whatever was saved meanwhile."""

    def make(original: Any) -> Any:
        return lambda self, grant_id, reason, **_: original(self, grant_id, reason)

    with _replaced(MemoryGrantStore, "end", make):
        yield


@breaks("losers never sign anyone out", "I3")
def loser_signs_out() -> Iterator[None]:
    """Who loses the claim sends its user to sign in."""

    def make(original: Any) -> Any:
        def redeem(self: Any, seen: Any, *rest: Any, **how: Any) -> Any:
            found = original(self, seen, *rest, **how)
            if isinstance(found, Overtaken):
                raise SignInRequired(seen.grant.provider, "lost_race")
            return found

        return redeem

    with _replaced(Redeemer, "redeem", make):
        yield


@breaks("10: an outage is not a sign-out", "I3")
def outage_signs_out() -> Iterator[None]:
    """A provider that is away costs its users their session."""

    def give_up(self: Any, grant: Any, decision: Any) -> None:
        raise SignInRequired(grant.provider, "refused")

    with patch.object(rotator.Rotator, "_give_up", give_up):
        yield


@breaks("10: failures are remembered on the row", "I6")
def retry_at_ignored() -> Iterator[None]:
    """Each request asks a provider that wants to be left alone."""

    def make(original: Any) -> Any:
        return lambda grant, now, policy: original(replace(grant, retry_at=None), now, policy)

    with _replaced(protocol, "_obstacle", make):
        yield


@breaks("9: sign-out wins over a late save", "I5")
def late_save_revives() -> Iterator[None]:
    """A save does not look at whether the grant has ended."""

    def make(original: Any) -> Any:
        def save(self: Any, seen: Any, claim: Claim, tokens: Any, **rest: Any) -> SaveOutcome:
            row = self.rows[claim.grant_id]
            if row.ended_at is not None:
                self._write(row, tokens=tokens, token_version=claim.version, ended_at=None, end_reason=None)
                return SaveOutcome.SAVED
            return original(self, seen, claim, tokens, **rest)

        return save

    with _replaced(MemoryGrantStore, "save", make):
        yield


@breaks("9: tokens that come after the sign-out are revoked", "I2", "I5")
def late_tokens_not_revoked() -> Iterator[None]:
    """A redemption that finds its grant signed out throws its tokens away."""
    with patch.object(Redeemer, "_revoke_if_signed_out", lambda *_: None):
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

    with _replaced(GrantCache, "put", make):
        yield


@breaks("9: a flight from before the sign-out is not joined after it", "I5")
def flight_joined_after_sign_out() -> Iterator[None]:
    """A request that comes after the sign-out gets what an older one had read."""
    with patch.object(Flights, "forget", lambda *_: None):
        yield


@breaks("12: key everything by grant id", "I4")
def memo_keyed_by_provider() -> Iterator[None]:
    """Two users of one provider share a place in the memo."""

    def make(original: Any) -> Any:
        def fresh(self: Any, rotator: Any, grant_id: str, **rest: Any) -> Any:
            for held in self._fresh.values():
                if rotator.is_fresh(held, **rest):
                    return held
            return original(self, rotator, grant_id, **rest)

        return fresh

    with _replaced(RequestMemo, "fresh", make):
        yield


@breaks("one thread of a process works on a grant, the others wait", "I6")
def flight_forgotten_too_early() -> Iterator[None]:
    """The flight is forgotten when its work begins."""

    def make(original: Any) -> Any:
        def lead(self: Any, key: str, flight: Any, work: Any) -> Any:
            self._flights.pop(key, None)
            return original(self, key, flight, work)

        return lead

    with _replaced(Flights, "lead", make):
        yield


@breaks("10: an outage ends, and then all are served again", "I3")
def breaker_never_closes() -> Iterator[None]:
    """A provider that was away once is never asked again."""

    def make(original: Any) -> Any:
        def admit(self: Any, provider: str, grant_id: str) -> float:
            circuit = self._circuits.get(provider)
            return 1.0 if circuit is not None and circuit.is_open else original(self, provider, grant_id)

        return admit

    with _replaced(Breaker, "admit", make):
        yield


@breaks("9: a sign-in ends the grant that it replaces", "I5")
def replaced_grant_lives_on() -> Iterator[None]:
    """The grant of the former sign-in goes on giving tokens."""

    def make(original: Any) -> Any:
        return lambda self, new, *, replaces=None: original(self, new)

    with _replaced(MemoryGrantStore, "add", make):
        yield


@breaks("9: a redemption in flight never lands in the grant of a new sign-in", "I2", "I4")
def save_lands_in_the_users_newest_grant() -> Iterator[None]:
    """What a redemption brings goes to its user's living grant, whichever sign-in made that."""

    def make(original: Any) -> Any:
        def save(self: Any, seen: Any, claim: Claim, tokens: Any, **rest: Any) -> SaveOutcome:
            newest = self.find(seen.user_id, seen.provider) or claim.grant_id
            return original(self, seen, replace(claim, grant_id=newest), tokens, **rest)

        return save

    with _replaced(MemoryGrantStore, "save", make):
        yield


@breaks("9: an unsaved token is revoked only when its user ended the grant", "I3")
def unsaved_tokens_always_revoked() -> Iterator[None]:
    """A redemption that finds its grant replaced or refused revokes what it brought."""

    def revoke(self: Any, grant_id: str, tokens: Any) -> None:
        self.revoke(self._store.load(grant_id), tokens)

    with patch.object(Redeemer, "_revoke_if_signed_out", revoke):
        yield


@breaks("15: the memo is dropped on sign-in and sign-out", "I5")
def memo_survives_sign_out() -> Iterator[None]:
    """A request that signed its user out goes on with the token that it has."""
    with patch.object(RequestMemo, "forget", lambda self: None):
        yield


@breaks("4: a deadline is one of the database's clock", "I1", "I3")
def deadlines_by_the_process_clock() -> Iterator[None]:
    """A worker compares the row's times with its own wall clock, which is half a minute ahead."""

    def make(original: Any) -> Any:
        return lambda grant, now, policy: original(grant, now + 30.0, policy)

    with _replaced(rotator, "decide", make):
        yield
