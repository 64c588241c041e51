"""Providers slower than any request waits, at default settings: they cost waiting time, never sessions."""

from __future__ import annotations

from typing import Any

import pytest

from flask_tokenrotate.errors import RotationTimeout, TryLater
from flask_tokenrotate.rotation.holding import RESPONSE_SECONDS, Holding
from flask_tokenrotate.rotation.windows import Windows

from .processes import LIFETIME, Process, World, access
from .turns import Job, SlowProvider, Turns, TurnsThreads

PROCESSES = 3


class Deployment:
    """Processes with rotation threads before one slow provider."""

    def __init__(self, *, takes: float, lifetime: float = LIFETIME) -> None:
        self.clock = Turns()
        self.provider = SlowProvider(self.clock, takes=takes, lifetime=lifetime)
        self.world = World(self.clock, self.provider)
        self.processes = [
            self.world.process(threads=TurnsThreads(self.clock), cache_seconds=10.0) for _ in range(PROCESSES)
        ]

    def requests(self, grant_id: str, moments: list[float]) -> list[Job]:
        """Let a request come at each moment, at one process after the other, and all of them end."""
        jobs = [
            self.clock.start(self._request(self.processes[number % PROCESSES], grant_id), after=moment)
            for number, moment in enumerate(moments)
        ]
        self.clock.run()
        return jobs

    def _request(self, process: Process, grant_id: str) -> Any:
        return lambda: process.get(grant_id)


@pytest.mark.parametrize("takes", [8.0, 40.0])
@pytest.mark.parametrize("remaining", [-1.0, 20.0], ids=["expired", "stale"])
def test_no_session_is_lost_and_nobody_waits_longer_than_wait(takes: float, remaining: float) -> None:
    """One post; every request gets a token or a time to come again; afterwards all have the new token."""
    deployment = Deployment(takes=takes)
    world, provider = deployment.world, deployment.provider
    grant_id = world.sign_in(remaining=remaining)
    jobs = deployment.requests(grant_id, [0.5 * number for number in range(120)])
    assert [token for _, token in provider.posts] == ["refresh-0"]
    assert max(job.seconds for job in jobs) <= world.wait_seconds + 1e-6
    assert all(job.error is None or isinstance(job.error, RotationTimeout) for job in jobs)
    assert all(access(job.result) == "access-1" for job in jobs if job.began - jobs[0].began > takes + 1.0)
    row = world.row(grant_id)
    assert (row.token_version, row.end_reason, row.doubts) == (1, None, 0)
    if takes < world.wait_seconds:
        assert all(access(job.result) == "access-1" for job in jobs)
    elif remaining > 0:
        valid = [job for job in jobs if job.ended - jobs[0].began < remaining]
        assert {access(job.result) for job in valid} == {"access-0"}


def test_who_comes_after_wait_seconds_is_not_kept() -> None:
    """With an expired token a request gets its error at once, or a worker would wait for each of them."""
    deployment = Deployment(takes=40.0)
    grant_id = deployment.world.sign_in(remaining=-1.0)
    jobs = deployment.requests(grant_id, [0.0, *(float(moment) for moment in range(16, 39))])
    assert {job.seconds for job in jobs[1:]} == {0.0}
    assert all(isinstance(job.error, RotationTimeout) for job in jobs)


def test_a_holder_that_gave_up_early_would_lose_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with the call cut at seven seconds the replay is refused, whatever the holder had got."""
    keep_waiting = Holding.keep_waiting

    def only_as_long_as_a_redemption(holding: Holding) -> float:
        now = holding._clock.monotonic()
        return now if now >= holding._overdue_at else keep_waiting(holding)

    monkeypatch.setattr(Holding, "keep_waiting", only_as_long_as_a_redemption)
    deployment = Deployment(takes=8.0)
    grant_id = deployment.world.sign_in(remaining=-1.0)
    deployment.requests(grant_id, [0.0, 20.0, 40.0])
    assert deployment.provider.presented_twice
    assert deployment.world.row(grant_id).token_version == 0


def test_a_provider_that_never_responds_is_given_up() -> None:
    """After a minute the call ends in doubt; the replay comes no sooner than that."""
    deployment = Deployment(takes=1e9)
    grant_id = deployment.world.sign_in(remaining=-1.0)
    jobs = deployment.requests(grant_id, [float(moment) for moment in range(0, 200, 5)])
    began = jobs[0].began
    moments = [moment - began for moment, _ in deployment.provider.posts]
    assert len(moments) == 2
    assert moments[1] >= RESPONSE_SECONDS + 10.0
    assert max(job.seconds for job in jobs) <= deployment.world.wait_seconds + 1e-6
    row = deployment.world.row(grant_id)
    assert (row.end_reason, row.doubts) == (None, 2)


class TestSlowerThanHalfATokensLife:
    """Each new token set is below ``min_ttl`` when it comes: it satisfies those who wait for it."""

    TAKES, TOKEN_LIFETIME = 12.0, 20.0

    def redemptions(self, moments: list[float]) -> tuple[int, list[Job]]:
        deployment = Deployment(takes=self.TAKES, lifetime=self.TOKEN_LIFETIME)
        grant_id = deployment.world.sign_in(remaining=-1.0, expires_in=self.TOKEN_LIFETIME)
        jobs = deployment.requests(grant_id, moments)
        assert not deployment.provider.presented_twice
        assert deployment.world.row(grant_id).end_reason is None
        return len(deployment.provider.posts), jobs

    def test_six_requests_at_once_make_one_redemption(self) -> None:
        """All of them get what it brings."""
        posts, jobs = self.redemptions([0.0] * 6)
        assert posts == 1
        assert {access(job.result) for job in jobs} == {"access-1"}
        assert max(job.seconds for job in jobs) <= self.TAKES + 1.0

    def test_held_to_min_ttl_they_would_make_one_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The control: what came is not fresh, so it is rotated again, and again."""
        monkeypatch.setattr(Windows, "to_its_end", Windows.fresh)
        monkeypatch.setattr("flask_tokenrotate.rotation.asking._Step.has_begun_before", lambda *_: False)
        posts, _ = self.redemptions([0.0] * 6)
        assert posts > 1

    def test_a_stream_of_requests_makes_one_after_the_other(self) -> None:
        """Never two at a time, and each request has a token or a time to come again within ``wait``."""
        posts, jobs = self.redemptions([float(moment) for moment in range(120)])
        assert posts <= 120 / self.TAKES + 1
        assert max(job.seconds for job in jobs) <= 15.0 + 1e-6
        assert all(job.error is None or isinstance(job.error, TryLater) for job in jobs)
