"""Plays one cell of the table: a redemption is halted at a step, the fault happens, and everything goes on.

It looks at four things: the response to the request that redeems (``first``); the response to another request
of the same session in another worker meanwhile (``other``); what the session's next rotation gets while the
fault lasts (``next``, where it outlasts the first); and whether the session works afterwards (``well``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from flask_tokenrotate.testing.provider.knobs import KNOBS
from tests.servers.fake_provider import requests_under_way
from tests.servers.processes import kill, stopped
from tests.servers.visitors import Answer, Visitor, eventually

from .bench import RESPONSE_SECONDS, TIMING, Bench, over

PAST_THE_DEADLINE = TIMING["claim"] + TIMING["settle"] + 0.2
DATABASE_AWAY_SECONDS = 2.5
"""Longer than a holder goes on trying to save, so that the token set has to wait in a rescue file."""


@dataclass(frozen=True)
class Seen:
    """What was seen of one cell; answers as a status, with the reason of a refusal or ``-`` for none."""

    first: str
    other: str
    next: str
    well: bool
    presentations: tuple[int, ...]
    trouble: tuple[str, ...] = ()


@dataclass(frozen=True)
class Halted:
    """A redemption at a step: ``arrived`` waits for it and returns its process, ``go`` lets it go on."""

    arrived: Callable[[], int]
    go: Callable[[], None]


@contextmanager
def halted(bench: Bench, step: str, grant: str) -> Iterator[Halted]:
    """Halt the redemption at ``step`` until the end of the block."""
    if step != "request_written":
        bench.halt_at(step, grant)
        try:
            yield Halted(bench.halted, bench.go)
        finally:
            bench.go()
        return
    with bench.provider.hold("received") as gate:

        def arrived() -> int:
            gate.wait_for(1)
            return bench.holder(grant)

        yield Halted(arrived, gate.open)


def play(bench: Bench, step: str, fault: str, user: str, provider: str = "replaying") -> Seen:
    """Play the cell with a new visitor and look at everything afterwards."""
    visitor, grant = bench.sign_in(user, provider)
    page = f"/token/{provider}"
    next_answer = None
    with ThreadPoolExecutor(2) as threads, contextlib.ExitStack() as fault_goes_on:
        with halted(bench, step, grant) as redemption:
            first = threads.submit(visitor.get, page)
            pid = redemption.arrived()
            if fault == "kill":
                kill(pid)
                other = threads.submit(visitor.get, page)
            elif fault == "stall":
                with stopped(pid):
                    other = threads.submit(visitor.get, page)
                    over(PAST_THE_DEADLINE)
                    redemption.go()
                    # The answer lies in the stopped worker's socket before the worker looks at the clock.
                    eventually(lambda: not requests_under_way())
            else:
                fault_goes_on.enter_context(FAULTS[fault](bench))
                other = threads.submit(visitor.get, page)
        if fault == "hang" and _was_hit(step, fault):
            # A provider that hangs for ever would swallow the one replay too.
            first.result()
            fault_goes_on.close()
        answers = first.result(), other.result()
        if fault not in ("kill", "stall", "database") and not _was_hit(step, fault):
            bench.expire(grant)
            next_answer = visitor.get(page)
    eventually(lambda: not requests_under_way())
    well = _is_well(bench, visitor, grant, page)
    presented = bench.presentations(user)
    return Seen(
        first=_brief(answers[0]),
        other=_brief(answers[1]),
        next="-" if next_answer is None else _brief(next_answer),
        well=well,
        presentations=tuple(sorted(presented.values(), reverse=True)),
        trouble=tuple(_trouble(bench, grant, sum(presented.values()))),
    )


def _was_hit(step: str, fault: str) -> bool:
    """Return whether the fault can still meet the redemption that was halted at ``step``."""
    reaches = {
        "cut_before": ("before_claim", "claim_committed", "request_written", "answer_read"),
        "cut_after": ("before_claim", "claim_committed", "request_written", "answer_read"),
        "dns": ("before_claim", "claim_committed"),
    }
    return step in reaches.get(fault, ("before_claim", "claim_committed", "request_written"))


def _is_well(bench: Bench, visitor: Visitor, grant: str, page: str) -> bool:
    """Return whether the session rotates once more, by a refresh token that the provider takes."""
    try:
        eventually(lambda: visitor.get(page).status == 200, seconds=4)
        bench.expire(grant)
        eventually(lambda: visitor.get(f"{page}?api={bench.provider.url}/userinfo").json.get("api") == 200)
    except TimeoutError:
        return False
    return True


def _trouble(bench: Bench, grant: str, presentations: int) -> Iterator[str]:
    yield from (breach.what for breach in bench.breaches() if breach.grant_id == grant)
    spent = bench.spent_slots(grant)
    if presentations > spent:
        yield f"the provider looked at {presentations} refresh tokens, the ledger knows of {spent}"


def _brief(answer: Answer) -> str:
    if answer.status == 503:
        return "503" if int(answer.headers.get("Retry-After", 0)) > 0 else "503 without Retry-After"
    reason = answer.json.get("reason")
    return f"{answer.status} {reason}" if reason else str(answer.status)


# The faults that are not a worker's own


@contextmanager
def _database(bench: Bench) -> Iterator[None]:
    bench.database.stop()
    try:
        yield
        over(DATABASE_AWAY_SECONDS)
    finally:
        bench.database.start()


@contextmanager
def _cut(bench: Bench, moment: str) -> Iterator[None]:
    bench.cut_next_commit(moment)
    try:
        yield
    finally:
        bench.forget_cuts()


@contextmanager
def _turned(bench: Bench, **knobs: float | bool) -> Iterator[None]:
    bench.provider.turn(**knobs)
    try:
        yield
    finally:
        bench.provider.turn(**{name: KNOBS[name].default for name in knobs})


@contextmanager
def _dns(bench: Bench) -> Iterator[None]:
    bench.forget_name()
    try:
        yield
    finally:
        bench.know_name()


FAULTS: dict[str, Callable[[Bench], AbstractContextManager[None]]] = {
    "database": _database,
    "cut_before": lambda bench: _cut(bench, "before"),
    "cut_after": lambda bench: _cut(bench, "after"),
    "slow": lambda bench: _turned(bench, response_seconds=PAST_THE_DEADLINE + 0.4),
    "hang": lambda bench: _turned(bench, response_seconds=RESPONSE_SECONDS + 0.5),
    "drop": lambda bench: _turned(bench, drop_next=1),
    "busy": lambda bench: _turned(bench, outage=True, retry_after=1),
    "dns": _dns,
}
