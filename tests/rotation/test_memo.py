"""What one request has got: one token for all its parts, and never an older one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_tokenrotate.rotation.memo import RequestMemo

from .processes import LIFETIME, LaterThreads, World, access


@pytest.fixture
def world() -> World:
    return World()


def test_all_parts_of_a_request_get_the_same_token_for_one_read(world: World) -> None:
    """Hook, view and template cost one read of the row even without a process cache."""
    grant_id = world.sign_in(remaining=1000.0)
    process, memo = world.process(cache_seconds=0.0), RequestMemo()
    world.store.calls.clear()
    found = [memo.fresh(process.tokens, grant_id) for _ in range(3)]
    assert found[0] is found[1] is found[2]
    assert world.store.calls == ["load"]


def test_three_touches_of_a_dead_token_cost_one_redemption(world: World) -> None:
    """The token that the first touch brought serves the others."""
    grant_id = world.sign_in(remaining=-1.0)
    process, memo = world.process(cache_seconds=0.0), RequestMemo()
    assert {access(memo.fresh(process.tokens, grant_id)) for _ in range(3)} == {"access-1"}
    assert world.endpoint.posts == ["refresh-0"]


def test_a_stream_that_outlives_its_token_gets_the_next_one(world: World) -> None:
    """What the memo holds is looked at against the clock each time."""
    grant_id = world.sign_in(remaining=1000.0)
    process, memo = world.process(), RequestMemo()
    assert access(memo.fresh(process.tokens, grant_id)) == "access-0"
    world.clock.advance(1000.0)
    assert access(memo.fresh(process.tokens, grant_id)) == "access-1"


def test_a_larger_min_ttl_is_asked_of_what_is_held_too(world: World) -> None:
    """A part of the request that needs a longer life does not get the short-lived token."""
    grant_id = world.sign_in(remaining=600.0)
    process, memo = world.process(), RequestMemo()
    assert access(memo.fresh(process.tokens, grant_id)) == "access-0"
    assert access(memo.fresh(process.tokens, grant_id, min_ttl=1200.0)) == "access-1"


def test_two_grants_of_one_provider_do_not_share_a_place(world: World) -> None:
    """A sign-in in the middle of a request never gets the token of the user before."""
    first = world.sign_in(remaining=LIFETIME)
    second = world.sign_in(remaining=LIFETIME, access_token=world.endpoint.rotated().response.access_token)
    process, memo = world.process(), RequestMemo()
    assert memo.fresh(process.tokens, first).grant.id == first
    assert memo.fresh(process.tokens, second).grant.id == second


def test_a_refused_token_is_replaced_in_the_memo(world: World) -> None:
    """After a resource server refused the token all parts of the request have the new one."""
    grant_id = world.sign_in(remaining=1000.0)
    process, memo = world.process(), RequestMemo()
    new = memo.refused(process.rotation.refused, memo.fresh(process.tokens, grant_id))
    assert access(new) == "access-1"
    assert memo.fresh(process.tokens, grant_id) is new


def test_an_older_token_never_comes_back(world: World) -> None:
    """What is older than the token that the request has used already is not taken from the cache."""
    grant_id = world.sign_in(remaining=40.0)
    process, memo = world.process(), RequestMemo()
    process.get(grant_id)
    held = memo.fresh(process.tokens, grant_id)
    newer = replace(held.grant, token_version=5, tokens=replace(held.tokens, expires_at=0.0))
    memo._fresh[grant_id] = replace(held, seen=replace(held.seen, grant=newer), until=0.0)
    world.store.rows[grant_id] = replace(world.row(grant_id), token_version=6, version=6)
    assert memo.fresh(process.tokens, grant_id).token_version == 6


def test_a_sign_in_or_sign_out_empties_the_memo(world: World) -> None:
    """After `forget` the row is asked again."""
    grant_id = world.sign_in(remaining=1000.0)
    process, memo = world.process(cache_seconds=0.0), RequestMemo()
    memo.fresh(process.tokens, grant_id)
    memo.forget()
    world.store.calls.clear()
    memo.fresh(process.tokens, grant_id)
    assert world.store.calls == ["load"]


def test_the_memo_knows_what_to_rotate_after_the_response(world: World) -> None:
    """Where no thread can do it: the grants whose token came with the request to rotate ahead are named."""
    ahead = world.sign_in(remaining=LIFETIME)
    world.clock.advance(LIFETIME - 100.0)
    fresh = world.sign_in(remaining=LIFETIME)
    process, memo = world.process(), RequestMemo()
    memo.fresh(process.tokens, ahead)
    memo.fresh(process.tokens, fresh)
    assert [found.grant.id for found in memo.rotations_ahead()] == [ahead]


def test_where_threads_rotate_nothing_is_left_to_the_request(world: World) -> None:
    """The thread has the grant already."""
    ahead = world.sign_in(remaining=100.0)
    process, memo = world.process(threads=LaterThreads()), RequestMemo()
    memo.fresh(process.tokens, ahead)
    assert memo.rotations_ahead() == []


def test_a_token_served_to_its_end_serves_the_whole_request(world: World) -> None:
    """During a slow redemption the parts of a request get the old token, and each of them at once."""
    grant_id = world.sign_in(remaining=20.0)
    world.claim_elsewhere(grant_id, seconds=60.0)
    process, memo = world.process(cache_seconds=0.0), RequestMemo()
    first = memo.fresh(process.tokens, grant_id)
    began = world.clock.monotonic()
    assert [memo.fresh(process.tokens, grant_id) for _ in range(3)] == [first] * 3
    assert world.clock.monotonic() == began
