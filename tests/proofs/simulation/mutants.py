"""The protocol with one rule broken each: what the simulator must be able to see.

A mutant is a context manager that patches the code under test. `MUTANTS` lists each with the rule of
the protocol that it breaks and the invariants by which the simulator may notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from flask_tokenrotate.errors import SignInRequired
from flask_tokenrotate.rotation import asking, flights, holding, protocol
from flask_tokenrotate.rotation.ahead import Ahead
from flask_tokenrotate.rotation.breaker import Admitted, Breaker
from flask_tokenrotate.rotation.cache import GrantCache
from flask_tokenrotate.rotation.flights import Flights
from flask_tokenrotate.rotation.holding import Holding
from flask_tokenrotate.rotation.looks import Looks
from flask_tokenrotate.rotation.memo import RequestMemo
from flask_tokenrotate.rotation.outcomes import Overtaken, SaveOutcome
from flask_tokenrotate.rotation.redeemer import Redeemer
from flask_tokenrotate.rotation.revocation import Revocation
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.rotation.unsaved import UnsavedTokenSets
from flask_tokenrotate.rotation.verdict import Busy, Effect, NotSent, Refused, Unknown
from flask_tokenrotate.rotation.waiting import Waiting
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
        def next_step(grant: Any, now: float, policy: Any) -> Any:
            standing = grant.standing
            if standing is not None and now >= standing.deadline:
                grant = replace(grant, standing=None)
            return original(grant, now, policy)

        return next_step

    with without_slots(), _replaced(protocol, "_next_step", make):
        yield


@breaks("4: a replay comes after the deadline and a settling time", "I1")
def replays_without_settling() -> Iterator[None]:
    """The replay comes at the deadline itself."""

    def make(original: Any) -> Any:
        return lambda grant, now, policy: original(grant, now, replace(policy, settle=0.0))

    with _replaced(protocol, "_next_step", make):
        yield


@breaks("4: at most one replay", "I1")
def replay_unlimited() -> Iterator[None]:
    """A provider that allows a replay is sent any number."""

    def may_post_again(doubts: int, policy: protocol.Policy) -> bool:
        return doubts < 1 or policy.on_unknown == "replay"

    with without_slots(), patch.object(protocol, "may_post_again", may_post_again):
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
        return lambda self, claim, verdict, *, in_doubt, **rest: original(self, claim, verdict, **rest)

    with _replaced(MemoryGrantStore, "release", make):
        yield


@breaks("4: a holder posts only inside its claim", "I1")
def posts_outside_its_claim() -> Iterator[None]:
    """The holder does not look at its deadline before it posts."""

    ages = patch.object(Holding, "is_too_late_to_post", lambda self: False)
    with ages, patch.object(Holding, "send_by", property(lambda self: self._claimed_at + 1000.0)):
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

    def error(grant: Any, decision: Any) -> SignInRequired:
        return SignInRequired(grant.provider, "refused")

    with patch.object(asking, "_error", error):
        yield


@breaks("10: failures are remembered on the row", "I6")
def retry_at_ignored() -> Iterator[None]:
    """Each request asks a provider that wants to be left alone."""

    def make(original: Any) -> Any:
        return lambda grant, now, policy: original(replace(grant, retry_at=None), now, policy)

    with _replaced(protocol, "_next_step", make):
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

    with _replaced(GrantCache, "put", make):
        yield


@breaks("9: a look from before the sign-out is not joined after it", "I5")
def look_joined_after_sign_out() -> Iterator[None]:
    """A request that comes after the sign-out gets what an older one had read."""
    with patch.object(Looks, "forget", lambda *_: None):
        yield


@breaks("12: key everything by grant id", "I4")
def memo_keyed_by_provider() -> Iterator[None]:
    """Two users of one provider share a place in the memo."""

    def make(original: Any) -> Any:
        def fresh(self: Any, tokens: Any, grant_id: str, *, here: bool = False, **rest: Any) -> Any:
            for held in self._fresh.values():
                if tokens.is_fresh(held, **rest):
                    return held
            return original(self, tokens, grant_id, here=here, **rest)

        return fresh

    with _replaced(RequestMemo, "fresh", make):
        yield


@breaks("one thread of a process looks at a grant, the others wait", "I6")
def look_forgotten_too_early() -> Iterator[None]:
    """The look is forgotten when its work begins."""

    def make(original: Any) -> Any:
        def take(self: Any, key: str, look: Any, work: Any) -> Any:
            self._looks.pop(key, None)
            return original(self, key, look, work)

        return take

    with _replaced(Looks, "take", make):
        yield


@breaks("one thread of a process redeems a grant, the others wait", "I6")
def flight_forgotten_too_early() -> Iterator[None]:
    """The flight is forgotten when its work begins."""

    def make(original: Any) -> Any:
        def fly(self: Any, flight: Any, *rest: Any, **how: Any) -> None:
            self._flights.pop(flight.grant_id, None)
            original(self, flight, *rest, **how)

        return fly

    with _replaced(Flights, "_fly", make):
        yield


@breaks("10: an outage ends, and then all are served again", "I3")
def breaker_never_closes() -> Iterator[None]:
    """A provider that was away once is never asked again."""

    def make(original: Any) -> Any:
        def admit(self: Any, provider: str, grant_id: str) -> Admitted:
            circuit = self._circuits.get(provider)
            is_open = circuit is not None and circuit.is_open
            return Admitted(pause=1.0) if is_open else original(self, provider, grant_id)

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

    with patch.object(Revocation, "revoke_if_signed_out", revoke):
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

    with _replaced(asking, "decide", make), _replaced(flights, "decide", make):
        yield


@breaks("18: a verdict that leaves the refresh token in place pauses", "I6b")
def verdict_without_a_pause() -> Iterator[None]:
    """A verdict is added (here: in place of Busy) whose author forgot the pause."""
    with patch.object(Busy, "pause", lambda *_: None):
        yield


@breaks("4: never replay within the settling time of a doubt", "I1", "I6b")
def doubt_without_a_pause() -> Iterator[None]:
    """The replay comes as soon as the holder has written that it is in doubt."""
    with patch.object(Unknown, "pause", lambda *_: None):
        yield


@breaks("4: a living holder renews its claim", "I1")
def renewal_off() -> Iterator[None]:
    """The claim ends at its first deadline, while its holder waits for a slow provider."""

    def renew(self: Any, now: float) -> None:
        self._next_renewal = float("inf")

    with patch.object(Holding, "_renew", renew):
        yield


@breaks("4: a renewal bumps the version", "I1")
def delayed_renewal_unnoticed() -> Iterator[None]:
    """A renewal that commits after another worker saw the old deadline does not cost that one its claim."""

    def make(original: Any) -> Any:
        def renew(self: Any, claim: Claim, **rest: Any) -> bool:
            before = self.rows[claim.grant_id].version
            done: bool = original(self, claim, **rest)
            self.rows[claim.grant_id] = replace(self.rows[claim.grant_id], version=before)
            return done

        return renew

    with _replaced(MemoryGrantStore, "renew", make):
        yield


@breaks("4: no renewer outlives its post", "I6")
def renewer_outlives_its_post() -> Iterator[None]:
    """A thread of its own renews the claim for as long as a call may take, whatever becomes of the call."""

    def make(original: Any) -> Any:
        def post(self: Any, grant: Any, held: Any) -> Any:
            if self._threads.in_background:
                self._threads.run(grant.provider, lambda: _renews(self, held), ahead=False)
            return original(self, grant, held)

        return post

    with _replaced(Redeemer, "_post", make):
        yield


def _renews(redeemer: Any, held: Any) -> None:
    for _ in range(18):
        redeemer._clock.sleep(redeemer._timing.claim / holding.RENEWALS_PER_CLAIM)
        redeemer._store.renew(held._claim, seconds=redeemer._timing.claim)


@breaks("4: a holder gives up when it no longer renews", "I1")
def holder_never_gives_up() -> Iterator[None]:
    """The holder waits on after the 60 seconds for which it renews its claim."""

    def make(original: Any) -> Any:
        def keep_waiting(self: Any) -> float:
            if self._gives_up_at <= self._clock.monotonic() < self._gives_up_at + 60.0:
                return float(self._gives_up_at + 60.0)
            return float(original(self))

        return keep_waiting

    with _replaced(Holding, "keep_waiting", make):
        yield


@breaks("4: a renewal that fails, or takes long, never ends the call", "I2")
def failed_renewal_ends_the_call() -> Iterator[None]:
    """A holder that could not renew its claim drops the connection."""

    def make(original: Any) -> Any:
        def keep_waiting(self: Any) -> float:
            failed = self._clock.monotonic() >= self._next_renewal and not self._store.renew(
                self._claim, seconds=self._timing.claim
            )
            return float(self._clock.monotonic() if failed else original(self))

        return keep_waiting

    with _replaced(Holding, "keep_waiting", make):
        yield


@breaks("11: what is aborted at exit is in doubt", "I1")
def aborted_calls_count_as_not_sent() -> Iterator[None]:
    """A call that is aborted because its process exits is released as if nothing had been sent."""

    def make(original: Any) -> Any:
        def settle(self: Any, redemption: Any, verdict: Any) -> Any:
            aborted = isinstance(verdict, Unknown) and self._threads.are_closing
            return original(self, redemption, NotSent(cause="aborted") if aborted else verdict)

        return settle

    with without_slots(), _replaced(Redeemer, "_settle", make):
        yield


@breaks("11: a process that exits posts nothing whose response it cannot await", "I1")
def posts_at_exit() -> Iterator[None]:
    """Work that still waited for a thread at exit begins all the same."""

    def make(original: Any) -> Any:
        def init(self: Any, store: Any, endpoint: Any, clock: Any, threads: Any, *rest: Any, **how: Any) -> None:
            original(self, store, endpoint, clock, _SeemsOpen(threads), *rest, **how)

        return init

    def make_holding(original: Any) -> Any:
        def init(self: Any, *first: Any, **how: Any) -> None:
            original(self, *first[:4], first[4].threads, *first[5:], **how)

        return init

    with _replaced(Redeemer, "__init__", make), _replaced(Holding, "__init__", make_holding):
        yield


class _SeemsOpen:
    """The threads of a process, which never seem to close."""

    are_closing = False

    def __init__(self, threads: Any) -> None:
        self.threads = threads


@breaks("11: nobody waits for a rotation ahead", "I6")
def rotation_ahead_awaited() -> Iterator[None]:
    """Who starts a rotation ahead waits until it has landed, and gets what it brought."""

    def make(original: Any) -> Any:
        def rotating(self: Any, fresh: Any, policy: Any, epoch: int) -> Any:
            found = original(self, fresh, policy, epoch)
            flight = self._flights.of(fresh.grant.id)
            if flight is None or not self._flights.go_on_in_background:
                return found
            flight.landed.wait(60.0)
            if not hasattr(flight.result, "grant"):
                return found
            return self._windows.to_its_end(flight.result, "rotated", None)

        return rotating

    with _replaced(Ahead, "rotating", make):
        yield


@breaks("4: who comes late to a slow provider does not wait", "I6")
def waits_without_end() -> Iterator[None]:
    """A request waits for the redemption of a slow provider however long it takes."""

    def until_landed(self: Any, flight: Any) -> bool:
        return bool(flight.landed.wait(600.0))

    with patch.object(Waiting, "until_landed", until_landed):
        yield


@breaks("4: a refused replay proves only that the token was spent", "I2")
def refused_replay_ends_the_grant() -> Iterator[None]:
    """A replay that was refused ends the grant, though the first post's response may still be saved."""
    ends = replace(Refused.consequences, effect_of_replay=Effect.END)
    with patch.object(Refused, "consequences", ends):
        yield


@breaks("4: a doubt is one about the refresh token that was posted", "I1")
def doubt_lands_on_a_newer_token_set() -> Iterator[None]:
    """A replay without an outcome counts as a doubt though a late winner has saved meanwhile."""

    def make(original: Any) -> Any:
        def release(self: Any, claim: Claim, verdict: Any, **how: Any) -> bool:
            row = self.rows[claim.grant_id]
            done: bool = original(self, claim, verdict, **how)
            if done and row.token_version != claim.redeems:
                row = self.rows[claim.grant_id]
                self.rows[row.id] = replace(row, doubts=row.doubts + how.get("in_doubt", False))
            return done

        return release

    with _replaced(MemoryGrantStore, "release", make):
        yield
