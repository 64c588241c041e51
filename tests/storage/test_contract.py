"""The contract of `ports.GrantStore` and `ports.AttemptStore`, over the store in memory and every engine."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest

from flask_tokenrotate.attempts import Attempt
from flask_tokenrotate.errors import LedgerConflict, StoreUnavailable
from flask_tokenrotate.rotation.outcomes import SaveOutcome
from flask_tokenrotate.rotation.tokens import Claim, Grant, Secret, TokenResponse
from flask_tokenrotate.rotation.verdict import CONSEQUENCES, Misconfigured, NotPosted, NotSent, Verdict
from flask_tokenrotate.testing.clock import ManualClock

from .backends import (
    BUSY,
    REFUSED,
    RESPONSE,
    UNKNOWN,
    Stores,
    claimed,
    loaded,
    memory_stores,
    new_grant,
    token_set,
)


def someone() -> str:
    """Return a user id of nobody else's: the database is shared by the tests of this file."""
    return secrets.token_hex(8)


# add, load, find


def test_add_returns_the_grant_as_a_load_would(stores: Stores) -> None:
    """What `add` returns is what `load` returns, at the same database time."""
    grant = stores.grants.add(new_grant())
    assert stores.grants.load(grant.id) == grant


def test_a_new_grant_starts_at_version_zero(stores: Stores) -> None:
    """A new row has version and token version 0, no claim, no doubt, no failure and no end."""
    grant = stores.grants.add(new_grant())
    assert (grant.version, grant.token_version, grant.doubts, grant.failures) == (0, 0, 0, 0)
    assert (grant.standing, grant.retry_at, grant.failure, grant.ended_at, grant.end_reason) == (None,) * 5


def test_a_new_grants_token_set_is_the_answer_with_absolute_expiry(stores: Stores) -> None:
    """Every field of the answer survives; relative lifetimes count from the database's time of the insert."""
    grant = stores.grants.add(new_grant())
    assert grant.tokens == RESPONSE.token_set(now=stores.clock.time())
    assert grant.created_at == grant.seen_at == stores.clock.time()


def test_what_the_answer_left_out_stays_unknown(stores: Stores) -> None:
    """None is kept as None: no expiry, refresh token, scope or ID token is invented."""
    answer = TokenResponse(access_token=Secret("only"), token_type="DPoP")
    grant = stores.grants.add(new_grant(response=answer, user_id=None, subject=None))
    assert loaded(stores.grants, grant.id).tokens == answer.token_set(now=0.0)
    assert (grant.user_id, grant.subject) == (None, None)


@pytest.mark.parametrize("scopes", [frozenset(), frozenset({"é"}), frozenset({"b", "a"})])
def test_scopes_survive_as_they_were(stores: Stores, scopes: frozenset[str]) -> None:
    """No scope granted and no scope said are different things."""
    answer = TokenResponse(access_token=Secret("x"), scopes=scopes)
    grant = stores.grants.add(new_grant(response=answer))
    assert loaded(stores.grants, grant.id).tokens.scopes == scopes


def test_load_tells_the_databases_time(stores: Stores) -> None:
    """``seen_at`` is the database's time of the read."""
    grant = stores.grants.add(new_grant())
    stores.clock.advance(12.5)
    assert loaded(stores.grants, grant.id).seen_at == grant.seen_at + 12.5


@pytest.mark.parametrize("unknown", ["", "unknown", "x" * 300, "nul\x00", "\ud800"])
def test_load_of_an_unknown_id_is_none(stores: Stores, unknown: str) -> None:
    """An id that no row has is None, whatever it is made of."""
    assert stores.grants.load(unknown) is None


def test_adding_a_replacement_ends_the_replaced_grant(stores: Stores) -> None:
    """The replaced grant ends with the reason ``replaced`` and keeps its token set."""
    old = stores.grants.add(new_grant())
    stores.grants.add(new_grant(), replaces=old.id)
    ended = loaded(stores.grants, old.id)
    assert (ended.end_reason, ended.ended_at, ended.version) == ("replaced", stores.clock.time(), 1)
    assert ended.tokens == old.tokens


@pytest.mark.parametrize("reason", ["signed_out", None])
def test_replacing_what_has_ended_or_never_was_changes_nothing(stores: Stores, reason: str | None) -> None:
    """A replaced grant that has ended keeps its reason; an unknown one is no error."""
    replaced = "unknown"
    if reason is not None:
        replaced = stores.grants.add(new_grant()).id
        stores.grants.end(replaced, "signed_out")
    assert stores.grants.add(new_grant(), replaces=replaced).end_reason is None
    row = stores.grants.load(replaced)
    assert (row and row.end_reason) == reason


def test_find_returns_the_newest_living_grant(stores: Stores) -> None:
    """The newest grant of the user at the provider wins; an ended one counts no more."""
    user = someone()
    first = stores.grants.add(new_grant(user_id=user))
    stores.clock.advance(1.0)
    second = stores.grants.add(new_grant(user_id=user))
    assert stores.grants.find(user, "spotify") == second.id
    stores.grants.end(second.id, "signed_out")
    assert stores.grants.find(user, "spotify") == first.id
    stores.grants.end(first.id, "signed_out")
    assert stores.grants.find(user, "spotify") is None


def test_find_compares_user_and_provider_exactly(stores: Stores) -> None:
    """Case, accents and trailing spaces tell users and providers apart on every engine."""
    user = someone() + "Ada"
    stores.grants.add(new_grant(user_id=user))
    for other in (user.lower(), user + " ", user.replace("A", "Ä"), user + "\x00", "\ud800"):
        assert stores.grants.find(other, "spotify") is None
    assert stores.grants.find(user, "Spotify") is None


# try_claim


def test_a_claim_stands_with_what_it_was_taken_with(stores: Stores) -> None:
    """A won claim grows the version by one and stands until the database's time plus its seconds."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant, seconds=10.0, doubts=1)
    row = loaded(stores.grants, grant.id)
    assert (claim.grant_id, claim.version, claim.redeems) == (grant.id, 1, 0)
    assert row.standing is not None
    assert (row.standing.claim, row.standing.holder) == (claim, "host:1:2")
    assert (row.standing.taken_at, row.standing.deadline) == (row.seen_at, row.seen_at + 10.0)
    assert (row.version, row.doubts, row.token_version) == (1, 1, 0)


def test_a_claim_on_an_old_version_is_lost(stores: Stores) -> None:
    """Whoever saw the row before the last claim gets None, and the standing claim stays."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    assert claimed(stores.grants, grant) is None
    standing = loaded(stores.grants, grant.id).standing
    assert standing is not None
    assert standing.claim == claim


def test_a_standing_claim_can_be_succeeded_by_who_saw_it(stores: Stores) -> None:
    """Eligible is who saw the newest version; whether a claim stands is for the protocol to decide."""
    grant = stores.grants.add(new_grant())
    first = claimed(stores.grants, grant)
    second = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    assert second.version == 2
    assert second.id != first.id


def test_an_ended_grant_cannot_be_claimed(stores: Stores) -> None:
    """An ended row is not claimable, not even by who saw its newest version."""
    grant = stores.grants.add(new_grant())
    stores.grants.end(grant.id, "signed_out")
    assert claimed(stores.grants, loaded(stores.grants, grant.id)) is None


def test_a_grant_that_does_not_exist_cannot_be_claimed(stores: Stores) -> None:
    """Losing to a deletion is a value too."""
    grant = replace(stores.grants.add(new_grant()), id="unknown")
    assert claimed(stores.grants, grant) is None


# renew


def test_a_renewal_extends_the_deadline_and_nothing_else(stores: Stores) -> None:
    """The deadline counts from the database's time of the renewal, and the version grows by one."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant, seconds=10.0, doubts=1)
    before = loaded(stores.grants, grant.id)
    stores.clock.advance(7.0)
    assert stores.grants.renew(claim, seconds=10.0)
    row = loaded(stores.grants, grant.id)
    assert before.standing is not None
    standing = replace(before.standing, deadline=before.seen_at + 17.0)
    assert row == replace(before, version=2, standing=standing, seen_at=before.seen_at + 7.0)
    assert stores.ledger(grant.id) == [(claim.id, 1, None, None)]


def who_saw_the_old_deadline_loses(stores: Stores) -> None:
    """A renewal that was committed a moment before the claim of another worker makes that claim lose."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    seen = loaded(stores.grants, grant.id)
    stores.clock.advance(20.0)
    assert stores.grants.renew(claim, seconds=10.0)
    assert claimed(stores.grants, seen, doubts=1) is None
    standing = loaded(stores.grants, grant.id).standing
    assert standing is not None
    assert standing.claim == claim
    assert stores.ledger(grant.id) == [(claim.id, 0, None, None)]


def test_who_saw_the_old_deadline_loses(stores: Stores) -> None:
    """The deadline had passed in the row that it saw, but the holder lives."""
    who_saw_the_old_deadline_loses(stores)


def test_a_renewal_that_keeps_the_version_stops_nobody() -> None:
    """The control: with the version as it was, another worker takes the claim of a holder that lives."""
    stores = memory_stores(ManualClock())
    rows = stores.grants.rows  # type: ignore[attr-defined]
    renew = stores.grants.renew

    def renew_without_a_trace(claim: Claim, *, seconds: float) -> bool:
        done = renew(claim, seconds=seconds)
        rows[claim.grant_id] = replace(rows[claim.grant_id], version=rows[claim.grant_id].version - 1)
        return done

    stores.grants.renew = renew_without_a_trace  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        who_saw_the_old_deadline_loses(stores)


def test_a_delayed_renewal_does_nothing_to_the_next_claim(stores: Stores) -> None:
    """It commits after another worker took the claim: that worker's deadline and version stay."""
    grant = stores.grants.add(new_grant())
    late = claimed(stores.grants, grant)
    claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    before = loaded(stores.grants, grant.id)
    ledger = stores.ledger(grant.id)
    assert not stores.grants.renew(late, seconds=60.0)
    assert loaded(stores.grants, grant.id) == before
    assert stores.ledger(grant.id) == ledger


SETTLED: dict[str, Callable[[Stores, Grant, Claim], object]] = {
    "save": lambda stores, grant, claim: stores.grants.save(grant, claim, token_set(1)),
    "release": lambda stores, grant, claim: stores.grants.release(claim, BUSY, retry_after=1.0),
    "doubt": lambda stores, grant, claim: stores.grants.release(claim, UNKNOWN, in_doubt=True),
    "end": lambda stores, grant, claim: stores.grants.end(grant.id, "refused", claim=claim, verdict=REFUSED),
    "sign-out": lambda stores, grant, claim: stores.grants.end(grant.id, "signed_out"),
}


@pytest.mark.parametrize("how", SETTLED)
def test_a_claim_that_is_settled_cannot_be_renewed(stores: Stores, how: str) -> None:
    """After a save, a release and an end a renewal that was under way changes neither row nor ledger."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    SETTLED[how](stores, grant, claim)
    before, ledger = loaded(stores.grants, grant.id), stores.ledger(grant.id)
    assert not stores.grants.renew(claim, seconds=10.0)
    assert loaded(stores.grants, grant.id) == before
    assert stores.ledger(grant.id) == ledger


def test_a_claim_on_a_token_set_that_was_replaced_cannot_be_renewed(stores: Stores) -> None:
    """A late winner saved a newer token set: what the standing claim redeems is no longer the stored one."""
    grant = stores.grants.add(new_grant())
    late = claimed(stores.grants, grant)
    newest = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    stores.grants.save(grant, late, token_set(1))
    before = loaded(stores.grants, grant.id)
    assert not stores.grants.renew(newest, seconds=10.0)
    assert loaded(stores.grants, grant.id) == before


def test_only_a_claims_own_id_renews_it(stores: Stores) -> None:
    """A claim of another grant, and one that nobody took, renew nothing."""
    grant, other = stores.grants.add(new_grant()), stores.grants.add(new_grant())
    claim, others = claimed(stores.grants, grant), claimed(stores.grants, other)
    before = loaded(stores.grants, grant.id)
    for wrong in (replace(claim, id=others.id), replace(claim, id="none"), replace(claim, grant_id="none")):
        assert not stores.grants.renew(wrong, seconds=10.0)
    assert loaded(stores.grants, grant.id) == before


def test_what_a_renewed_claim_brings_is_saved_under_its_version(stores: Stores) -> None:
    """Renewals move the row's version, not the claim's; the next claim's version is higher all the same."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    for _ in range(3):
        assert stores.grants.renew(claim, seconds=10.0)
    assert stores.grants.save(grant, claim, token_set(1), http_status=200) is SaveOutcome.SAVED
    row = loaded(stores.grants, grant.id)
    assert (row.version, row.token_version, row.standing) == (5, claim.version, None)
    second = claimed(stores.grants, row)
    assert second.version == 6
    assert stores.ledger(grant.id) == [(claim.id, 0, "rotated", 200), (second.id, 0, None, None)]


# save


def test_save_stores_the_token_set_under_the_claims_version(stores: Stores) -> None:
    """The token set is readable, the version grows by one, doubts and failures are cleared."""
    grant = stores.grants.add(new_grant())
    stores.grants.release(claimed(stores.grants, grant), BUSY, retry_after=30.0)
    claim = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    assert stores.grants.save(grant, claim, token_set(1)) is SaveOutcome.SAVED
    row = loaded(stores.grants, grant.id)
    assert row.tokens == token_set(1)
    assert (row.version, row.token_version) == (claim.version + 1, claim.version)
    assert (row.standing, row.doubts, row.retry_at, row.failures) == (None, 0, None, 0)
    assert (row.failure, row.failure_code) == (None, None)


def test_saving_twice_is_saving_once(stores: Stores) -> None:
    """A repeated save says SAVED again and writes nothing."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    stores.grants.save(grant, claim, token_set(1))
    before = loaded(stores.grants, grant.id)
    assert stores.grants.save(grant, claim, token_set(1)) is SaveOutcome.SAVED
    assert loaded(stores.grants, grant.id) == before


def test_a_late_winner_is_welcome(stores: Stores) -> None:
    """A save whose claim was succeeded is stored, and the newer claim goes on standing."""
    grant = stores.grants.add(new_grant())
    late = claimed(stores.grants, grant)
    newer = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    standing = loaded(stores.grants, grant.id).standing
    assert stores.grants.save(grant, late, token_set(1)) is SaveOutcome.SAVED
    row = loaded(stores.grants, grant.id)
    assert (row.tokens, row.token_version, row.standing) == (token_set(1), late.version, standing)
    assert stores.grants.save(grant, newer, token_set(2)) is SaveOutcome.SAVED
    assert loaded(stores.grants, grant.id).tokens == token_set(2)


def test_the_newest_claims_token_set_wins(stores: Stores) -> None:
    """A save that comes after the save of a newer claim is SUPERSEDED and changes nothing."""
    grant = stores.grants.add(new_grant())
    late = claimed(stores.grants, grant)
    newer = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    stores.grants.save(grant, newer, token_set(2))
    before = loaded(stores.grants, grant.id)
    assert stores.grants.save(grant, late, token_set(1)) is SaveOutcome.SUPERSEDED
    assert loaded(stores.grants, grant.id) == before


def test_a_save_after_its_release_is_still_welcome(stores: Stores) -> None:
    """Whether the claim stands does not matter: the token set is the only copy."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    stores.grants.release(claim, UNKNOWN, in_doubt=True)
    assert stores.grants.save(grant, claim, token_set(1)) is SaveOutcome.SAVED


@pytest.mark.parametrize("reason", ["signed_out", "replaced", "refused"])
def test_an_ended_grant_takes_no_token_set(stores: Stores, reason: str) -> None:
    """After the end a save says ENDED, and the row keeps the token set that it ended with."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    stores.grants.end(grant.id, reason)  # type: ignore[arg-type]
    before = loaded(stores.grants, grant.id)
    assert stores.grants.save(grant, claim, token_set(1)) is SaveOutcome.ENDED
    assert loaded(stores.grants, grant.id) == before


def test_saving_to_a_deleted_grant_says_ended(stores: Stores) -> None:
    """A row that somebody deleted takes no token set and is no error."""
    grant = replace(stores.grants.add(new_grant()), id="unknown")
    claim = Claim(id="c", grant_id="unknown", version=1, redeems=0)
    assert stores.grants.save(grant, claim, token_set(1)) is SaveOutcome.ENDED


# release


def test_release_clears_the_claim_and_remembers_the_failure(stores: Stores) -> None:
    """``retry_at`` counts from the database's time; failures count up while they come in a row."""
    grant = stores.grants.add(new_grant())
    for failures in (1, 2):
        claim = claimed(stores.grants, loaded(stores.grants, grant.id))
        assert stores.grants.release(claim, BUSY, retry_after=30.0)
        row = loaded(stores.grants, grant.id)
        assert (row.standing, row.version, row.doubts) == (None, claim.version + 1, 0)
        assert (row.retry_at, row.failures) == (row.seen_at + 30.0, failures)
        assert (row.failure, row.failure_code) == ("busy", "http_503")


def test_a_failure_has_its_verdicts_name_and_code(stores: Stores) -> None:
    """The first 255 characters of a code at least, however long it is; a verdict without one leaves none."""
    grant = stores.grants.add(new_grant())
    long = Misconfigured(error="x" * 255 + "y", cure="")
    stores.grants.release(claimed(stores.grants, grant), long, retry_after=30.0)
    row = loaded(stores.grants, grant.id)
    assert row.failure == "misconfigured"
    assert (row.failure_code or "")[:255] == "x" * 255
    stores.grants.release(claimed(stores.grants, row), NotPosted(), retry_after=30.0)
    row = loaded(stores.grants, grant.id)
    assert (row.failure, row.failure_code) == ("not_posted", None)


def test_release_without_a_pause_clears_the_failure(stores: Stores) -> None:
    """``retry_at``, failure, its code and failures follow ``retry_after``: None clears all four."""
    grant = stores.grants.add(new_grant())
    stores.grants.release(claimed(stores.grants, grant), BUSY, retry_after=30.0)
    stores.grants.release(claimed(stores.grants, loaded(stores.grants, grant.id)), BUSY)
    row = loaded(stores.grants, grant.id)
    assert (row.retry_at, row.failure, row.failure_code, row.failures) == (None, None, None, 0)


def test_release_in_doubt_adds_to_the_doubts_of_the_claim(stores: Stores) -> None:
    """Doubts grow by one with a release in doubt, from what the claim was taken with."""
    grant = stores.grants.add(new_grant())
    stores.grants.release(claimed(stores.grants, grant, doubts=1), UNKNOWN, in_doubt=True)
    assert loaded(stores.grants, grant.id).doubts == 2


def test_only_the_standing_claim_can_be_released(stores: Stores) -> None:
    """A claim that was released, succeeded, saved or ended is not there to release; nothing changes."""
    grant = stores.grants.add(new_grant())
    first = claimed(stores.grants, grant)
    second = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    before = loaded(stores.grants, grant.id)
    assert not stores.grants.release(first, BUSY, retry_after=30.0)
    assert loaded(stores.grants, grant.id) == before
    assert stores.grants.release(second, NotPosted())
    assert not stores.grants.release(second, BUSY, retry_after=30.0)


# end


def test_end_keeps_the_token_set_and_clears_the_claim(stores: Stores) -> None:
    """Ending grows the version by one; the token set stays for revocation and for people."""
    grant = stores.grants.add(new_grant())
    claimed(stores.grants, grant)
    assert stores.grants.end(grant.id, "signed_out")
    row = loaded(stores.grants, grant.id)
    assert (row.end_reason, row.ended_at, row.standing) == ("signed_out", row.seen_at, None)
    assert (row.version, row.tokens) == (2, grant.tokens)


def test_a_grant_ends_once(stores: Stores) -> None:
    """Only the first end says True, and its reason stays."""
    grant = stores.grants.add(new_grant())
    assert stores.grants.end(grant.id, "signed_out")
    assert not stores.grants.end(grant.id, "replaced")
    assert loaded(stores.grants, grant.id).end_reason == "signed_out"
    assert not stores.grants.end("unknown", "signed_out")


def test_a_refusal_ends_the_grant_of_the_standing_claim(stores: Stores) -> None:
    """With its claim standing and its token version stored, a refusal is believed."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    assert stores.grants.end(grant.id, "refused", claim=claim)
    assert loaded(stores.grants, grant.id).end_reason == "refused"


def test_a_refusal_is_not_believed_from_a_succeeded_claim(stores: Stores) -> None:
    """Only the holder of the newest claim can end a grant by a refusal."""
    grant = stores.grants.add(new_grant())
    old = claimed(stores.grants, grant)
    claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    assert not stores.grants.end(grant.id, "refused", claim=old)
    assert loaded(stores.grants, grant.id).end_reason is None


def test_a_refusal_of_an_old_refresh_token_is_not_believed(stores: Stores) -> None:
    """A late winner saved a newer token set: the standing claim's refusal was about the old one."""
    grant = stores.grants.add(new_grant())
    late = claimed(stores.grants, grant)
    newest = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    stores.grants.save(grant, late, token_set(1))
    assert not stores.grants.end(grant.id, "refused", claim=newest)
    assert loaded(stores.grants, grant.id).end_reason is None


# expire


def test_expire_kills_the_access_token_and_nothing_else(stores: Stores) -> None:
    """The token has run out at once; the version stays, so that no rotation in flight is disturbed."""
    grant = stores.grants.add(new_grant())
    assert stores.grants.expire(grant.id, 0)
    row = loaded(stores.grants, grant.id)
    assert row.tokens.remaining(row.seen_at) == 0
    assert row.version == 0


def test_expire_spares_a_newer_token_set(stores: Stores) -> None:
    """What was learnt about an old access token says nothing about the stored one."""
    grant = stores.grants.add(new_grant())
    stores.grants.save(grant, claimed(stores.grants, grant), token_set(1))
    assert not stores.grants.expire(grant.id, 0)
    assert loaded(stores.grants, grant.id).tokens == token_set(1)
    assert not stores.grants.expire("unknown", 0)


# the ledger


def test_a_won_claim_has_its_row_in_the_ledger(stores: Stores) -> None:
    """One row for each won claim, with the slot of its doubts and no outcome yet; a loser has none."""
    grant = stores.grants.add(new_grant())
    first = claimed(stores.grants, grant)
    assert claimed(stores.grants, grant) is None
    second = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    assert stores.ledger(grant.id) == [(first.id, 0, None, None), (second.id, 1, None, None)]


@pytest.mark.parametrize("doubts", [0, 1])
def test_a_slot_is_held_once(stores: Stores, doubts: int) -> None:
    """A second redemption of one refresh token in the same slot is refused, and the row is as it was."""
    grant = stores.grants.add(new_grant())
    claimed(stores.grants, grant, doubts=doubts)
    before = loaded(stores.grants, grant.id)
    with pytest.raises(LedgerConflict, match=f"slot {doubts}"):
        claimed(stores.grants, before, doubts=doubts)
    assert loaded(stores.grants, grant.id) == before
    assert len(stores.ledger(grant.id)) == 1


def test_there_is_no_third_slot(stores: Stores) -> None:
    """Whatever the protocol above may count: a refresh token is redeemed once, and replayed once."""
    grant = stores.grants.add(new_grant())
    with pytest.raises((LedgerConflict, StoreUnavailable)):
        claimed(stores.grants, grant, doubts=2)
    assert loaded(stores.grants, grant.id) == grant
    assert stores.ledger(grant.id) == []


def test_a_new_token_version_has_slots_of_its_own(stores: Stores) -> None:
    """A save brings a new refresh token, which nobody has redeemed."""
    grant = stores.grants.add(new_grant())
    first = claimed(stores.grants, grant)
    stores.grants.save(grant, first, token_set(1), http_status=200)
    second = claimed(stores.grants, loaded(stores.grants, grant.id))
    assert stores.ledger(grant.id) == [(first.id, 0, "rotated", 200), (second.id, 0, None, None)]


EXAMPLES: dict[str, Verdict] = {
    verdict.consequences.ledger_name: verdict
    for verdict in (BUSY, NotSent(cause="dns"), NotPosted(), Misconfigured(error="invalid_client", cure=""))
}
# A new verdict that leaves the refresh token unspent needs an example, or this raises KeyError.
UNSPENT = [EXAMPLES[name] for name, follows in CONSEQUENCES.items() if follows.spent is False]


@pytest.mark.parametrize("verdict", UNSPENT, ids=lambda verdict: verdict.consequences.ledger_name)
def test_a_release_of_an_unspent_token_frees_its_slot(stores: Stores, verdict: Verdict) -> None:
    """What is known not to have been spent may be redeemed by the next claim."""
    grant = stores.grants.add(new_grant())
    first = claimed(stores.grants, grant)
    stores.grants.release(first, verdict)
    second = claimed(stores.grants, loaded(stores.grants, grant.id))
    name = verdict.consequences.ledger_name
    assert stores.ledger(grant.id) == [
        (first.id, None, name, verdict.http_status),
        (second.id, 0, None, None),
    ]


def test_a_release_in_doubt_keeps_its_slot(stores: Stores) -> None:
    """What may have been spent holds its slot for ever."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    stores.grants.release(claim, UNKNOWN, in_doubt=True)
    assert stores.ledger(grant.id) == [(claim.id, 0, "unknown", None)]


def test_a_refused_replay_leaves_the_row_open_for_a_late_winner(stores: Stores) -> None:
    """It is released in doubt, and what a process that was stopped got for the first post is saved."""
    grant = stores.grants.add(new_grant())
    late = claimed(stores.grants, grant)
    replay = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    assert stores.grants.release(replay, REFUSED, in_doubt=True)
    row = loaded(stores.grants, grant.id)
    assert (row.doubts, row.standing, row.ended_at) == (2, None, None)
    assert stores.ledger(grant.id) == [(late.id, 0, None, None), (replay.id, 1, "refused", 400)]
    assert stores.grants.save(grant, late, token_set(1), http_status=200) is SaveOutcome.SAVED
    row = loaded(stores.grants, grant.id)
    assert (row.tokens, row.doubts) == (token_set(1), 0)
    assert stores.ledger(grant.id) == [(late.id, 0, "rotated", 200), (replay.id, 1, "refused", 400)]


def test_a_release_after_a_late_winner_writes_no_doubt_on_its_token_set(stores: Stores) -> None:
    """The claim is cleared and nothing else: what it met says nothing about the newer refresh token."""
    grant = stores.grants.add(new_grant())
    late = claimed(stores.grants, grant)
    replay = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    stores.grants.save(grant, late, token_set(1), http_status=200)
    assert stores.grants.release(replay, REFUSED, in_doubt=True, retry_after=60.0)
    row = loaded(stores.grants, grant.id)
    assert (row.doubts, row.retry_at, row.failure, row.failures) == (0, None, None, 0)
    assert (row.standing, row.tokens) == (None, token_set(1))


def test_a_refusal_is_in_the_ledger(stores: Stores) -> None:
    """The end of a grant by its claim says why, with the provider's status."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    stores.grants.end(grant.id, "refused", claim=claim, verdict=REFUSED)
    assert stores.ledger(grant.id) == [(claim.id, 0, "refused", 400)]


def test_the_ledger_gets_the_outcome_of_a_claim_that_the_row_has_moved_past(stores: Stores) -> None:
    """A release of a succeeded claim and a save after the end change no row, but the ledger has them."""
    grant = stores.grants.add(new_grant())
    first = claimed(stores.grants, grant)
    second = claimed(stores.grants, loaded(stores.grants, grant.id), doubts=1)
    assert not stores.grants.release(first, BUSY)
    stores.grants.end(grant.id, "signed_out")
    assert stores.grants.save(grant, second, token_set(1), http_status=200) is SaveOutcome.ENDED
    assert stores.ledger(grant.id) == [(first.id, None, "busy", 503), (second.id, 1, "rotated", 200)]


def test_an_outcome_in_the_ledger_is_not_taken_back_by_a_release(stores: Stores) -> None:
    """A release that is repeated after a save does not free the slot of a token that was spent."""
    grant = stores.grants.add(new_grant())
    claim = claimed(stores.grants, grant)
    stores.grants.save(grant, claim, token_set(1), http_status=200)
    assert not stores.grants.release(claim, NotPosted())
    assert stores.ledger(grant.id) == [(claim.id, 0, "rotated", 200)]


# attempts


def begun(stores: Stores, *, seconds: float = 600.0) -> tuple[Secret, Secret, Attempt]:
    """Begin a sign-in and return its state, its browser and what was stored."""
    state, browser = Secret(secrets.token_hex(16)), Secret(secrets.token_hex(16))
    attempt = Attempt(
        provider="spotify",
        verifier=Secret("verifier"),
        nonce=Secret("nonce"),
        redirect_uri="https://app.example/auth/spotify/callback",
        next_url="/é?x=1",
        scopes=frozenset({"read"}),
    )
    stores.attempts.begin(state, browser, attempt, seconds=seconds)
    return state, browser, attempt


def test_an_attempt_is_taken_once(stores: Stores) -> None:
    """The first take returns everything that was stored, the second says that it was used."""
    state, browser, attempt = begun(stores)
    assert stores.attempts.take(state, browser) == attempt
    assert stores.attempts.take(state, browser) == "already_used"
    assert stores.attempts.take(state, None) == "already_used"


@pytest.mark.parametrize("state", ["", "unknown", "\ud800", "nul\x00"])
def test_an_unknown_state_is_told(stores: Stores, state: str) -> None:
    """A state that nobody began is a value, whatever it is made of."""
    assert stores.attempts.take(Secret(state), Secret("b")) == "unknown_state"


def test_an_attempt_is_bound_to_its_browser(stores: Stores) -> None:
    """No cookie and another browser are told apart, and neither uses the attempt up."""
    state, browser, attempt = begun(stores)
    assert stores.attempts.take(state, None) == "no_cookie"
    assert stores.attempts.take(state, Secret("another")) == "other_browser"
    assert stores.attempts.take(state, browser) == attempt


def test_an_attempt_expires_at_its_time_and_not_before(stores: Stores) -> None:
    """One tick before its time the attempt is good, at its time it has expired."""
    first, second = begun(stores, seconds=600.0), begun(stores, seconds=600.0)
    stores.clock.advance(599.999)
    assert stores.attempts.take(*first[:2]) == first[2]
    stores.clock.advance(0.001)
    assert stores.attempts.take(*second[:2]) == "expired"


def test_expired_attempts_are_pruned_after_an_hour(stores: Stores) -> None:
    """A late user is told that the attempt expired; an hour later nothing of it is left."""
    state, browser, _ = begun(stores, seconds=600.0)
    stores.clock.advance(600.0 + 3600.0)
    begun(stores)
    assert stores.attempts.take(state, browser) == "expired"
    stores.clock.advance(0.001)
    begun(stores)
    assert stores.attempts.take(state, browser) == "unknown_state"
