"""Wrong clocks: hosts minutes apart, clocks that jump during a claim, a provider that lies about time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.errors import RotationTimeout
from flask_tokenrotate.rotation.outcomes import Overtaken
from flask_tokenrotate.rotation.tokens import Claim, NewGrant, Secret, TokenResponse
from flask_tokenrotate.rotation.verdict import Verdict
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.sealed.sealing import sealer_from

from .processes import Process, ScriptedEndpoint, World, a_process, access

APART = 300.0
PROCESSES = 8


class WallClock:
    """This machine's wall clock, as each host sees it."""

    def __init__(self) -> None:
        self.real = time.time
        self.skew = 0.0

    def time(self) -> float:
        return self.real() + self.skew

    @contextmanager
    def on_host(self, skew: float) -> Iterator[None]:
        """Run as a host whose clock is ``skew`` seconds ahead."""
        before, self.skew = self.skew, skew
        yield
        self.skew = before


class ByTheWallClock(SystemClock):
    """The mistake: durations measured by a clock that somebody may set."""

    def monotonic(self) -> float:
        return time.time()


class JumpingStore(SqlGrantStore):
    """A store at which the host's clock jumps when the claim was won."""

    jump: Callable[[], object] = staticmethod(lambda: None)

    def try_claim(self, *args: Any, **kwargs: Any) -> Claim | Overtaken:
        claim = super().try_claim(*args, **kwargs)
        self.jump()
        return claim


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    wall = WallClock()
    monkeypatch.setattr(time, "time", wall.time)
    return wall


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JumpingStore]:
    """A real database, which has a clock of its own."""
    database = Database.from_uri("sqlite:///grants.sqlite3", folder=tmp_path)
    yield JumpingStore(database, sealer_from((), "a secret key for tests"))
    database.engine().dispose()


def host(store: JumpingStore, endpoint: ScriptedEndpoint, clock: SystemClock | None = None) -> Process:
    """A process of its own over the shared store."""
    return a_process(store, endpoint, clock or SystemClock(), wait_seconds=0.5)


def dead_grant(store: JumpingStore) -> str:
    """A grant whose access token ran out a second ago."""
    response = TokenResponse(
        access_token=Secret("access-0"), refresh_token=Secret("refresh-0"), expires_in=-1.0
    )
    return store.add(NewGrant(provider="p", response=response)).id


def test_hosts_that_are_minutes_apart_agree(store: JumpingStore, wall: WallClock) -> None:
    """While one host redeems, a host five minutes ahead sees its claim stand; the token is dead to both."""
    endpoint, grant_id = ScriptedEndpoint(), dead_grant(store)
    behind, ahead = host(store, endpoint), host(store, endpoint)
    seen: list[Any] = []

    def look_from_the_host_ahead() -> Verdict:
        with wall.on_host(APART):
            row = store.load(grant_id)
            assert row is not None
            seen.append((row.standing is not None, row.seen_at < row.standing.deadline))
        return endpoint.rotated()

    endpoint.script = [look_from_the_host_ahead]
    with wall.on_host(-APART):
        assert access(behind.get(grant_id)) == "access-1"
    with wall.on_host(APART):
        assert access(ahead.get(grant_id)) == "access-1"
    assert seen == [(True, True)]
    assert endpoint.posts == ["refresh-0"]


@pytest.mark.parametrize("jump", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_clock_that_jumps_during_a_claim_changes_nothing(
    store: JumpingStore, wall: WallClock, jump: float
) -> None:
    """One post, one save, the right lifetime, whichever way the host's clock is set meanwhile."""
    endpoint, grant_id = ScriptedEndpoint(), dead_grant(store)
    store.jump = lambda: setattr(wall, "skew", jump)
    fresh = host(store, endpoint).get(grant_id)
    row = store.load(grant_id)
    assert row is not None
    assert (access(fresh), row.token_version, row.standing) == ("access-1", 1, None)
    assert row.tokens.remaining(row.seen_at) == pytest.approx(3600.0, abs=5.0)
    assert endpoint.posts == ["refresh-0"]


def test_by_the_wall_clock_the_jump_would_cost_the_redemption(store: JumpingStore, wall: WallClock) -> None:
    """The control: a holder that measures by the wall clock believes that its claim has run out."""
    endpoint, grant_id = ScriptedEndpoint(), dead_grant(store)
    store.jump = lambda: setattr(wall, "skew", wall.skew + 3600.0)
    with pytest.raises(RotationTimeout):
        host(store, endpoint, ByTheWallClock()).get(grant_id)
    assert endpoint.posts == []


class TestAProviderThatLies:
    """``expires_in`` says 3600 seconds, and the token dies after half of them."""

    @pytest.fixture
    def world(self) -> World:
        return World()

    def test_one_redemption_heals_it_for_all(self, world: World) -> None:
        """All processes are refused by the resource server at once; one of them redeems."""
        grant_id = world.sign_in(remaining=1800.0)
        processes = [world.process() for _ in range(PROCESSES)]
        refused = [process.get(grant_id) for process in processes]
        healed = [process.refused(fresh) for process, fresh in zip(processes, refused, strict=True)]
        assert {access(fresh) for fresh in healed} == {"access-1"}
        assert world.endpoint.posts == ["refresh-0"]

    def test_expiring_without_a_look_at_the_row_would_be_a_storm(self, world: World) -> None:
        """The control: each process ends whatever token is stored, the others' new ones as well."""
        grant_id = world.sign_in(remaining=1800.0)
        for process in [world.process() for _ in range(PROCESSES)]:
            process.expire(grant_id)
            process.get(grant_id)
        assert len(world.endpoint.posts) == PROCESSES

    def test_a_lifetime_that_is_said_too_short_costs_one_rotation_for_each(self, world: World) -> None:
        """A provider that says 1800 where it means 3600 is asked twice as often, and never more."""
        grant_id = world.sign_in(remaining=-1.0)
        process = world.process()
        world.endpoint.script = [lambda: world.endpoint.rotated(expires_in=1800.0)] * 10
        for _ in range(7200 // 60):
            process.get(grant_id)
            world.clock.advance(60.0)
        assert len(world.endpoint.posts) == 7200 // 1800
