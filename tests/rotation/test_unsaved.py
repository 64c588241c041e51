"""A rotated token set is never dropped."""

from __future__ import annotations

from typing import Any

import pytest

from flask_tokenrotate.errors import SignInRequired, StoreUnavailable
from flask_tokenrotate.rotation.tokens import Grant
from flask_tokenrotate.rotation.unsaved import UnsavedTokenSets
from flask_tokenrotate.rotation.verdict import Busy, Refused, Unknown, Verdict
from flask_tokenrotate.rotation.writing import PAUSES

from .processes import World, access

BUSY = Busy(cause="503")
RESET = Unknown(cause="connection reset")
TIMED_OUT = Unknown(cause="read time-out", timed_out=True)
REFUSED = Refused(error="invalid_grant")


@pytest.fixture
def world() -> World:
    return World()


class TestSaveFails:
    """A rotated token is never dropped."""

    def test_the_request_succeeds_and_the_token_is_saved_later(self, world: World) -> None:
        """The token in hand is used, kept, and saved when the database is back."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process()
        world.store.away = {"save"}
        assert access(process.get(grant_id)) == "access-1"
        assert world.clock.sleeps == list(PAUSES)
        assert world.notified.names == ["claimed", "save_failed"]
        assert world.row(grant_id).token_version == 0
        world.store.away = set()
        world.clock.advance(5.0)
        assert access(process.get(grant_id)) == "access-1"
        assert access(world.process().get(grant_id)) == "access-1"
        assert world.endpoint.posts == ["refresh-0"]

    def test_one_grant_that_cannot_be_saved_does_not_keep_others_back(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each waiting token set is tried: the first one's row may be locked for long."""
        locked, free = (world.sign_in(remaining=-1.0) for _ in range(2))
        process = world.process(cache_seconds=0.0)
        world.store.away = {"save"}
        for grant_id in (locked, free):
            process.get(grant_id)
        world.store.away = set()
        save = type(world.store).save

        def save_but_one(store: Any, seen: Grant, *args: Any, **options: Any) -> Any:
            if seen.id == locked:
                raise StoreUnavailable("the row is locked")
            return save(store, seen, *args, **options)

        monkeypatch.setattr(type(world.store), "save", save_but_one)
        process.get(free)
        assert (world.row(locked).token_version, world.row(free).token_version) == (0, 1)

    def test_a_save_is_tried_again_before_it_fails(self, world: World) -> None:
        """A database that is away for a moment costs nothing but that moment."""
        grant_id = world.sign_in(remaining=-1.0)
        world.store.away = {"save"}
        world.clock.meanwhile = [lambda: None, lambda: world.store.away.clear()]
        world.process().get(grant_id)
        assert world.row(grant_id).token_version == 1
        assert "save_failed" not in world.notified.names

    @pytest.mark.parametrize("way", ["get", "rotate_ahead"])
    def test_what_waits_to_be_saved_is_not_redeemed_again(self, world: World, way: str) -> None:
        """The row looks in doubt, but this process holds the successor, which a replay would kill."""
        grant_id = world.sign_in(remaining=100.0)
        process = world.process(cache_seconds=0.0)
        world.store.away = {"save"}
        process.rotate_ahead(grant_id)
        world.clock.advance(world.timing.claim + world.policy.settle)
        if way == "rotate_ahead":
            process.rotate_ahead(grant_id)
        else:
            with pytest.raises(StoreUnavailable):
                process.get(grant_id)
        assert world.endpoint.posts == ["refresh-0"]

    def test_a_process_that_overlooked_it_would_redeem_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control: looking at the row alone posts the spent refresh token once more."""
        monkeypatch.setattr(UnsavedTokenSets, "has", lambda *_: False)
        monkeypatch.setattr(UnsavedTokenSets, "save_rescued_of", lambda *_: False)
        grant_id = world.sign_in(remaining=100.0)
        process = world.process(cache_seconds=0.0)
        world.store.away = {"save"}
        process.rotate_ahead(grant_id)
        world.clock.advance(world.timing.claim + world.policy.settle)
        process.rotate_ahead(grant_id)
        assert world.endpoint.posts == ["refresh-0"] * 2

    def test_whatever_interrupts_a_save_the_token_is_kept(self, world: World) -> None:
        """A time-out that gevent throws into the request is no reason to drop the only copy."""

        class Timeout(BaseException):
            pass

        def interrupted(*_: object, **__: object) -> object:
            del world.store.save
            raise Timeout

        grant_id = world.sign_in(remaining=-1.0)
        process = world.process()
        world.store.save = interrupted  # type: ignore[method-assign, assignment]
        with pytest.raises(Timeout):
            process.get(grant_id)
        assert access(process.get(grant_id)) == "access-1"
        assert world.endpoint.posts == ["refresh-0"]

    def test_unsaved_tokens_of_a_grant_signed_out_meanwhile_are_revoked(self, world: World) -> None:
        """The sign-out in the process that holds them finds them."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process()
        world.store.away = {"save"}
        process.get(grant_id)
        world.store.away = set()
        process.sign_out(grant_id)
        assert sorted(world.endpoint.revoked) == ["access-0", "access-1"]

    def test_tokens_that_cannot_be_revoked_yet_are_kept(self, world: World) -> None:
        """The database goes away between the end and the look at its reason."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process()

        def sign_out_and_go_away() -> Verdict:
            world.store.end(grant_id, "signed_out")
            world.store.away = {"load"}
            return world.endpoint.rotated()

        world.endpoint.script = [sign_out_and_go_away]
        with pytest.raises(StoreUnavailable):
            process.get(grant_id)
        world.store.away = set()
        with pytest.raises(SignInRequired):
            process.get(grant_id)
        assert world.endpoint.revoked == ["access-1"]
