"""The invariants I1 to I6 of the protocol, checked while a schedule runs.

Those about posting are in `posts`. I7 (no secret is printed) has tests of its own. The referee believes the
provider's own books and the rows, never what the code under test says about itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flask_tokenrotate.errors import (
    ProviderMisconfigured,
    ProviderUnavailable,
    RotationTimeout,
    SignInRequired,
    StoreUnavailable,
    TokenRotateError,
)
from flask_tokenrotate.rotation.holding import Timing
from flask_tokenrotate.rotation.protocol import MAX_POSTS, Policy
from flask_tokenrotate.rotation.sighting import Fresh, Sighting
from flask_tokenrotate.rotation.tokens import Claim, Grant, TokenSet
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .posts import LONGEST_STEPS, Posts
from .provider import Message, Provider, family_of
from .scheduler import Process, Scheduler, Worker

STANDSTILL = {"crash", "stall", "slow", "suspend", "outage", "unknown", "clock"}
"""What can keep a claim from being settled in time, or make it look so. A slow provider cannot."""

EVENTS = (
    "crash",
    "stall",
    "lost answer",
    "failed save",
    "late save",
    "sign-out",
    "new sign-in",
    "clock jump",
    "replay",
    "rotation ahead",
    "wake-up",
    "renewal",
    "slow provider",
    "give-up",
    "drain",
    "partition",
    "caller's thread",
)
"""What a search has to have come across to be worth anything, counted over all of its schedules."""

EXCUSES: dict[type[TokenRotateError], set[str]] = {
    ProviderUnavailable: {"busy", "wait", "not_sent", "unknown", "overdue", "drain"},
    ProviderMisconfigured: {"misconfigured"},
    RotationTimeout: STANDSTILL | {"slow provider", "drain"},
    StoreUnavailable: {"outage", "clock"},
}
"""The only disturbances for which a request may fail with each error."""


@dataclass(frozen=True)
class Call:
    """One call for a token: when it began, and the row as it was then."""

    began_at: float
    row: Grant


class Referee(Posts):
    """Watches one schedule."""

    def __init__(
        self,
        scheduler: Scheduler,
        provider: Provider,
        rows: MemoryGrantStore,
        policy: Policy,
        timing: Timing,
        wait: float,
    ) -> None:
        super().__init__(scheduler, rows, policy, timing, provider.disturbances)
        self._provider = provider
        self._wait = wait
        self.families: dict[str, str] = {}
        self.in_store: set[Worker] = set()
        self.signed_out_in: set[tuple[Process, str]] = set()
        self.ended_in: set[tuple[Process, str]] = set()
        self.sign_outs_begun: set[str] = set()
        self.replaced: set[str | None] = set()
        self.expired: set[str] = set()
        self.looks_again = self.is_last_look = False
        self._calls: Counter[str] = Counter()
        self._brought: Counter[str] = Counter()
        self._unsettled: list[Message] = []
        self._in_hand: dict[Worker, list[Message]] = {}

    def is_kept(self, message: Message) -> bool:
        """Return whether the living process that received a token set still has to save it."""
        return message in self._unsettled and message not in self._in_hand.get(message.sender, ())

    def saves(self, claim: Claim) -> None:
        """A token set reaches the rows, in time or late."""
        standing = self._rows.rows[claim.grant_id].standing
        if standing is None or self._database_now() >= standing.deadline:
            self.events["late save"] += 1

    def revokes(self, tokens: TokenSet) -> None:
        """Tokens are revoked: only ever those of a user who signed out (I3).

        At many providers revoking one token kills its whole family, or all that this client has of the user.
        """
        family = family_of(tokens.access_token)
        row = next(row for row in self._rows.rows.values() if self.families[row.id] == family)
        if row.end_reason != "signed_out":
            name = tokens.access_token.reveal()
            raise self.violated("I3", f"{name} is revoked although its grant is {row.end_reason or 'alive'}")

    def calls_endpoint(self) -> None:
        """Nothing of the store is held while the provider is called (I6)."""
        if self._scheduler.running in self.in_store:
            raise self.violated("I6", "the provider is called from inside a call of the store")

    def received(self, message: Message) -> None:
        """A living process has a new token set: it must not get lost from now on (I2)."""
        assert message.issued is not None
        message.issued.received_by = message.sender.process
        self._unsettled.append(message)
        self._in_hand.setdefault(message.sender, []).append(message)
        family = message.issued.family
        self._brought[family] += 1
        if self._brought[family] > self._calls[family] and not self.happened & STANDSTILL:
            raise self.violated("I6b", f"{family} is rotated more often than its token was asked for")

    def hands_empty(self, worker: Worker) -> None:
        """The worker is done with the call in which it may have received token sets."""
        self._in_hand.pop(worker, None)
        self.check()

    def check(self) -> None:
        """Look for a token set that a living process dropped (I2); cheap, for after each step."""
        for message in list(self._unsettled):
            if not message.sender.process.alive:
                self._unsettled.remove(message)
            elif message not in self._in_hand.get(message.sender, ()):
                self._settle(message)

    def _settle(self, message: Message) -> None:
        issued = message.issued
        assert issued is not None
        row = next(row for row in self._rows.rows.values() if self.families[row.id] == issued.family)
        saved = row.token_version >= message.claim_version
        ended = row.end_reason == "signed_out" and (
            not issued.refresh_lives or "not_revoked" in self.happened
        )
        # Refused was another refresh token, one saved meanwhile: in a grace period the last issued counts.
        refused = row.end_reason == "refused" and row.tokens.refresh_token != message.refresh_token
        if saved or refused or ended or row.end_reason == "replaced":
            self._unsettled.remove(message)
            return
        kept = message.sender.process.rotation.unsaved._kept
        if not any(each.tokens.access_token == issued.access_token for each in kept.values()):
            name = issued.access_token.reveal()
            raise self.violated("I2", f"{name} was received and is now neither saved, kept nor revoked")

    def rows_changed(self, before: dict[str, Grant]) -> None:
        """Compare the rows with what they were before a write."""
        for grant_id, new in self._rows.rows.items():
            old = before.get(grant_id)
            if new is not old and family_of(new.tokens.access_token) != self.families[grant_id]:
                name = new.tokens.access_token.reveal()
                raise self.violated("I4", f"{name} landed in {grant_id}, which another sign-in made")
            if old is None or old is new:
                continue
            if new.token_version < old.token_version:
                raise self.violated("I2", f"{grant_id}: an older token set replaced a newer one")
            if new.doubts > old.doubts and old.standing and old.standing.claim.redeems != new.token_version:
                raise self.violated("I1", f"{grant_id}: a token set is in doubt that nobody has posted")
            if old.end_reason is not None and (new.version, new.end_reason) != (old.version, old.end_reason):
                raise self.violated("I5", f"{grant_id}: something was written after it had ended")
            if old.end_reason is None and new.end_reason == "refused":
                self._check_death(grant_id, old)

    def _check_death(self, grant_id: str, row: Grant) -> None:
        assert row.tokens.refresh_token is not None
        if self._provider.find(row.tokens.refresh_token).refresh_lives:
            raise self.violated("I3", f"{grant_id} was ended while its refresh token lives")

    def got(self, grant_id: str, fresh: Fresh, used: dict[str, int]) -> None:
        """A request got a token: of its own grant, and never an older one than before (I4)."""
        family = self.families[grant_id]
        token = fresh.tokens.access_token.reveal()
        if fresh.grant.id != grant_id or not token.startswith(f"{family}-access-"):
            raise self.violated("I4", f"a request for {grant_id} got {token} of {fresh.grant.id}")
        if fresh.token_version < used.get(grant_id, 0):
            raise self.violated("I4", f"a request got token version {fresh.token_version} after a newer one")
        if fresh.origin != "rotated" and fresh.tokens.remaining(fresh.grant.seen_at) <= 0:
            raise self.violated("I3", f"a request got {token}, which had run out when it was read")
        used[grant_id] = fresh.token_version

    def asks(self, grant_id: str, seen: Sighting | None) -> Call:
        """A call for a token begins, by one that has read the row as ``seen``, or has not."""
        self._calls[self.families[grant_id]] += 1
        return Call(self._scheduler.now, self._rows.rows[grant_id] if seen is None else seen.grant)

    def ends_call(self, call: Call, found: Fresh | None) -> None:
        """A call ends that leaves its work to others: it waited for no longer than it had to (I6)."""
        waited = self._scheduler.now - call.began_at
        if waited > self._wait + LONGEST_STEPS and not self.happened & (STANDSTILL - {"unknown"}):
            raise self.violated("I6", f"a request waited for {waited:.3f} s")
        if found is None or found.origin != "rotated" or self.happened & {"clock", "suspend"}:
            return
        before = call.row.tokens
        if call.row.id not in self.expired and before.remaining(self._database_now()) >= self._policy.min_ttl:
            raise self.violated("I6", "a request waited for a rotation although its token was fresh")

    def returned_after_sign_out(self, grant_id: str) -> None:
        """A call that began after a sign-out, or a new sign-in, in the same process gave a token (I5)."""
        raise self.violated(
            "I5", f"{grant_id} gave a token after its user's sign-out or sign-in had returned"
        )

    def two_leaders(self, grant_id: str) -> None:
        """Two threads of one process look after the same grant at once (I6)."""
        raise self.violated("I6", f"two threads of one process work on {grant_id} at once")

    def failed(self, grant_id: str, error: TokenRotateError, *, calm: bool = False) -> None:
        """A request failed: something other than a race must be the reason (I3).

        ``calm``: everything works again and all deadlines have passed, so nothing excuses an error
        but the end of the grant.
        """
        doubts = self._rows.rows[grant_id].doubts
        if calm and isinstance(error, ProviderUnavailable) and doubts >= MAX_POSTS and not self.is_last_look:
            # Is it to be posted a third time? Another look, after that pause, will show it.
            self.looks_again = True
            return
        if not self._is_excused(grant_id, error, calm):
            known = ", ".join(sorted(self.happened)) or "nothing"
            raise self.violated("I3", f"{grant_id}: {error!r}, although this is all that happened: {known}")

    def _is_excused(self, grant_id: str, error: TokenRotateError, calm: bool) -> bool:
        if not isinstance(error, SignInRequired):
            return not calm and bool(EXCUSES.get(type(error), set()) & self.happened)
        match error.reason:
            case "signed_out":
                return grant_id in self.sign_outs_begun
            case "replaced":
                return grant_id in self.replaced
            case "refused":
                return self.families[grant_id] in self._provider.refused_families
            case "outcome_unknown":
                return bool(self.happened & (STANDSTILL | {"drain"}))
            case _:
                return False

    def finish(self) -> None:
        """The schedule is over: nothing waits to be saved (I2), nothing outlives a sign-out (I5)."""
        self.check()
        if self._unsettled:
            raise self.violated("I2", "a token set still waits to be saved although the store is back")
        for grant_id in self.replaced:
            if grant_id is not None and self._rows.rows[grant_id].end_reason is None:
                raise self.violated("I5", f"{grant_id} lives on although a new sign-in has replaced it")
        for process, grant_id in sorted(self.signed_out_in, key=lambda pair: (pair[0].name, pair[1])):
            if process.alive:
                self._check_nothing_lives(grant_id)

    def _check_nothing_lives(self, grant_id: str) -> None:
        if "not_revoked" in self.happened:
            return
        row = self._rows.rows[grant_id]
        if row.end_reason != "signed_out":
            # Refused before: a late winner's tokens are left alone, whatever the user does then.
            return
        stored = row.tokens.access_token
        for issued in self._provider.families[self.families[grant_id]]:
            holder = issued.received_by
            ours = issued.access_token == stored or (holder is not None and holder.alive)
            if issued.refresh_lives and ours:
                name = issued.access_token.reveal()
                raise self.violated("I5", f"{name} lives at the provider after the sign-out of {grant_id}")
