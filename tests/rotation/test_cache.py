"""The process cache: bounded, and never wiser than the row."""

from __future__ import annotations

import pytest

from flask_tokenrotate.rotation.cache import GrantCache
from flask_tokenrotate.rotation.sighting import Sighting
from flask_tokenrotate.rotation.tokens import EndReason, Grant, Secret, TokenSet
from flask_tokenrotate.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> GrantCache:
    return GrantCache(clock, entries=2, seconds=5.0)


def sighting(grant_id: str = "g", *, version: int = 0, end: EndReason | None = None) -> Sighting:
    tokens = TokenSet(access_token=Secret(f"{grant_id} {version}"))
    return Sighting(
        Grant(id=grant_id, provider="p", tokens=tokens, seen_at=0.0, version=version, end_reason=end), 0.0
    )


def kept(cache: GrantCache, grant_id: str) -> Sighting | None:
    """Return what the cache keeps of the grant."""
    entry = cache.get(grant_id, cache._clock.monotonic())
    return None if entry is None else entry.seen


def test_what_was_put_is_found_until_its_seconds_are_over(cache: GrantCache, clock: ManualClock) -> None:
    """An entry lives for `seconds` and not a tick longer."""
    seen = sighting()
    cache.put(seen, cache.epoch)
    clock.advance(4.999)
    assert kept(cache, "g") is seen
    clock.advance(0.001)
    assert kept(cache, "g") is None


def test_zero_seconds_keep_nothing(clock: ManualClock) -> None:
    """With 0 seconds every request reads the row."""
    cache = GrantCache(clock, entries=2, seconds=0.0)
    cache.put(sighting(), cache.epoch)
    assert kept(cache, "g") is None


def test_the_least_recently_used_entry_goes_first(cache: GrantCache) -> None:
    """The bound on entries holds, and what is in use stays."""
    for name in ("a", "b"):
        cache.put(sighting(name), cache.epoch)
    kept(cache, "a")
    cache.put(sighting("c"), cache.epoch)
    assert [name for name in ("a", "b", "c") if kept(cache, name)] == ["a", "c"]


def test_an_older_row_does_not_replace_a_newer_one(cache: GrantCache) -> None:
    """A slow reader does not bring back what a faster one has left behind."""
    newer = sighting(version=3)
    cache.put(newer, cache.epoch)
    cache.put(sighting(version=2), cache.epoch)
    assert kept(cache, "g") is newer


def test_a_row_of_the_same_version_replaces_the_one_before(cache: GrantCache) -> None:
    """Marking a token as dead is no write of the protocol and must be seen all the same."""
    cache.put(sighting(version=3), cache.epoch)
    again = sighting(version=3)
    cache.put(again, cache.epoch)
    assert kept(cache, "g") is again


def test_an_ended_grant_is_never_kept_and_drops_what_was_kept(cache: GrantCache) -> None:
    """Once this process has seen the end it serves nothing of the grant any more."""
    cache.put(sighting(version=1), cache.epoch)
    cache.put(sighting(version=2, end="signed_out"), cache.epoch)
    assert kept(cache, "g") is None


def test_a_read_from_before_a_forget_is_not_kept_after_it(cache: GrantCache) -> None:
    """A thread that read the row before the sign-out does not bring the token back."""
    epoch = cache.epoch
    cache.forget("g")
    cache.put(sighting(), epoch)
    assert kept(cache, "g") is None
    cache.put(sighting(), cache.epoch)
    assert kept(cache, "g") is not None


def test_one_caller_in_each_pause_shall_rotate_ahead(cache: GrantCache, clock: ManualClock) -> None:
    """The first caller shall rotate, the next ones not before the pause is over."""
    cache.put(sighting(), cache.epoch)
    assert [cache.start_ahead("g", 10.0) for _ in range(3)] == [True, False, False]
    clock.advance(10.0)
    assert cache.start_ahead("g", 10.0)


def test_without_an_entry_every_caller_shall_rotate_ahead(cache: GrantCache) -> None:
    """Where nothing is cached there is no way to tell, and the claim sorts it out."""
    assert [cache.start_ahead("g", 10.0) for _ in range(2)] == [True, True]


def test_after_a_reset_nothing_is_kept_and_no_older_read_is(cache: GrantCache) -> None:
    """A forked child starts with nothing, under the same bounds."""
    epoch = cache.epoch
    cache.put(sighting(), epoch)
    cache.reset()
    assert kept(cache, "g") is None
    cache.put(sighting(), epoch)
    assert kept(cache, "g") is None
    for name in ("a", "b", "c"):
        cache.put(sighting(name), cache.epoch)
    assert [name for name in ("a", "b", "c") if kept(cache, name)] == ["b", "c"]


def test_a_dropped_grant_is_read_again_and_others_stay(cache: GrantCache) -> None:
    """Its row has changed in a way that is not known here; unlike `forget`, readers in progress still put."""
    epoch = cache.epoch
    for name in ("a", "b"):
        cache.put(sighting(name), epoch)
    cache.drop("a")
    assert (kept(cache, "a"), kept(cache, "b") is not None) == (None, True)
    cache.put(sighting("a"), epoch)
    assert kept(cache, "a") is not None
