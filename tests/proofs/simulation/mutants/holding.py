"""Mutants of the rules about the holder of a claim: renewing, giving up, and the exit of its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.rotation import holding
from flask_tokenrotate.rotation.holding import Holding
from flask_tokenrotate.rotation.redeemer import Redeemer
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.rotation.verdict import NotSent, Unknown
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .registry import breaks, replaced, without_slots


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

    with replaced(MemoryGrantStore, "renew", make):
        yield


@breaks("4: no renewer outlives its post", "I6")
def renewer_outlives_its_post() -> Iterator[None]:
    """A thread of its own renews the claim for as long as a call may take, whatever becomes of the call."""

    def make(original: Any) -> Any:
        def post(self: Any, grant: Any, held: Any) -> Any:
            threads = self._threads
            if threads.in_background:
                threads._scheduler.start(
                    "renewer", threads._process, lambda worker: _renews(self, held, worker)
                )
            return original(self, grant, held)

        return post

    with replaced(Redeemer, "_post", make):
        yield


def _renews(redeemer: Any, held: Any, worker: Any) -> None:
    for _ in range(18):
        redeemer._clock.sleep(redeemer._timing.claim / holding.RENEWALS_PER_CLAIM)
        with suppress(StoreUnavailable):
            redeemer._store.renew(held._claim, seconds=redeemer._timing.claim)
    worker.finished = True


@breaks("4: a holder gives up when it no longer renews", "I1")
def holder_never_gives_up() -> Iterator[None]:
    """The holder waits on after the 60 seconds for which it renews its claim."""

    def make(original: Any) -> Any:
        def keep_waiting(self: Any) -> float:
            if self._gives_up_at <= self._clock.monotonic() < self._gives_up_at + 60.0:
                return float(self._gives_up_at + 60.0)
            return float(original(self))

        return keep_waiting

    with replaced(Holding, "keep_waiting", make):
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

    with replaced(Holding, "keep_waiting", make):
        yield


@breaks("11: what is aborted at exit is in doubt", "I1")
def aborted_calls_count_as_not_sent() -> Iterator[None]:
    """A call that is aborted because its process exits is released as if nothing had been sent."""

    def make(original: Any) -> Any:
        def settle(self: Any, redemption: Any, verdict: Any) -> Any:
            aborted = isinstance(verdict, Unknown) and self._threads.are_closing
            return original(self, redemption, NotSent(cause="aborted") if aborted else verdict)

        return settle

    with without_slots(), replaced(Redeemer, "_settle", make):
        yield


@breaks("11: a process that exits posts nothing whose response it cannot await", "I1")
def posts_at_exit() -> Iterator[None]:
    """Work that still waited for a thread at exit begins all the same."""

    def make(original: Any) -> Any:
        def init(
            self: Any, store: Any, endpoint: Any, clock: Any, threads: Any, *rest: Any, **how: Any
        ) -> None:
            original(self, store, endpoint, clock, _SeemsOpen(threads), *rest, **how)

        return init

    def make_holding(original: Any) -> Any:
        def init(self: Any, *first: Any, **how: Any) -> None:
            original(self, *first[:4], first[4].threads, *first[5:], **how)

        return init

    with replaced(Redeemer, "__init__", make), replaced(Holding, "__init__", make_holding):
        yield


class _SeemsOpen:
    """The threads of a process, which never seem to close."""

    are_closing = False

    def __init__(self, threads: Any) -> None:
        self.threads = threads


@breaks("4: a renewal that fails, or takes long, never ends the call", "I2")
def slow_renewal_ends_the_call() -> Iterator[None]:
    """After a long renewal the next one is due already, and the moment until which to read has passed."""
    with patch.object(holding, "SHORTEST_READ_SECONDS", 0.0):
        yield
