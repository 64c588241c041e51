"""Writes the table as a page of the documentation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from .cells import Result
from .table import FAULTS, LIMITS, STEPS, Expected, expected

_INTRODUCTION = """# What a fault costs

This page is written by `python -m tests.proofs faults --rounds {rounds} --write docs/faults.md`. One of three
worker processes is halted at a step of a redemption, the fault happens exactly then, and everything
continues. Afterwards the provider's own log, the ledger (as `flask tokenrotate verify` reads it) and the
grant's row must agree, and the session must rotate once more.

Run on {engines}, {rounds} times each: {cells} cells, {red} failed. A claim stands for 1.4 s here, and its
live holder renews it, for 4 s instead of 60; a refresh token in doubt is not replayed for 0.8 s. SQLite has
no server that could be stopped or cut off: its file is locked for writers, and its COMMIT fails.
"""

_TABLE = """
## A provider with a grace period, whose profile says `replay`

The access token has expired in every cell. (One that is still valid would be served meanwhile.) A cell says
what the request gets that waits for the redemption / what another request of the same session gets meanwhile.
*then* is the next rotation of the session during the fault, where the fault came too late for this one. ⟲:
the refresh token was posted twice, which the grace period allows. In every cell the session can be used
afterwards.
✔ passed on every engine in every round, ✘ did not.

The reasons:

- A slow provider costs waiting time and nothing else: the live holder renews its claim, so no other process
  posts, and its response is saved.
- After a lost response the holder reports the doubt at once. The one replay comes when the provider has had
  time to finish what it may still be doing. Until then there is no token, so requests get 503. A request that
  reads the row after that replays, and gets the page.
- After a worker was killed or stopped nobody reports anything. Others wait for the claim's deadline and the
  settling time, and then one of them replays: the request waits longer, and gets the page.
"""

_LIMITS = """
## The limit: a profile that says `reauthorize`

Where a refresh token may have been spent and its response is missing, nothing is posted again. The user has
to sign in (`outcome_unknown`). A process that still has the response saves it, and then nothing was lost. A
slow provider is no such case: its response comes. At a provider without a grace period `replay` does not help
either: the second post is refused. That shows that the refresh token was spent, but not that no process has
the response. So this is `outcome_unknown` too, and a process that has the response may save it.

| fault | at | redeems / other | afterwards | |
|---|---|---|---|---|
"""

_KEY = """
## What the user sees

- **200**: the page, with a new token.
- **503**: a page or problem document with `Retry-After`. Nothing is lost; a later request gets the page.
- **401**: sign in; `reason` is `outcome_unknown`.
- **broken**: the connection of the request that was in the killed worker. When the browser tries again, it
  gets the page.

A provider that hangs for a minute twice, with the pause in between, does not respond to the one replay
either. The user then has to sign in (`outcome_unknown`).
"""


def page(results: Sequence[Result], *, rounds: int, engines: Sequence[str]) -> str:
    """Return the page for ``results``, which hold every cell once for each round and engine."""
    red = sum(bool(result.faults) for result in results)
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}
    listed = ", ".join(names[engine] for engine in engines)
    introduction = _INTRODUCTION.format(rounds=rounds, engines=listed, cells=len(results), red=red)
    by_cell: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        by_cell[result.provider, result.fault, result.step].append(result)
    table = "\n".join(_rows(by_cell))
    limits = "\n".join(_limits(by_cell))
    return f"{introduction}{_TABLE}\n{table}\n{_LIMITS}{limits}\n{_KEY}"


def _rows(by_cell: dict[tuple[str, str, str], list[Result]]) -> Iterator[str]:
    yield f"| | {' | '.join(STEPS.values())} |"
    yield "|---" * (len(STEPS) + 1) + "|"
    for fault, words in FAULTS.items():
        cells = []
        for step in STEPS:
            wanted = expected("postgresql", step, fault)
            cells.append(f"{_mark(by_cell['replaying', fault, step])} {_told(wanted)}")
        yield f"| {words} | {' | '.join(cells)} |"


def _limits(by_cell: dict[tuple[str, str, str], list[Result]]) -> Iterator[str]:
    for (fault, step), wanted in LIMITS.items():
        after = "the session lives" if wanted.well else "the user signs in"
        mark = _mark(by_cell["careful", fault, step])
        yield f"| {FAULTS[fault]} | {STEPS[step]} | {_told(wanted)} | {after} | {mark} |"


def _mark(results: Iterable[Result]) -> str:
    return "✘" if any(result.faults for result in results) else "✔"


def _told(wanted: Expected) -> str:
    first, other = (_word(answer) for answer in (wanted.first, wanted.other))
    then = "" if wanted.next == "-" else f", *then* {_word(wanted.next)}"
    return f"{first} / {other}{then}{' ⟲' if wanted.replayed else ''}"


def _word(answer: str) -> str:
    # Of a refusal without its reason.
    return "broken" if answer == "0" else answer.removesuffix(" outcome_unknown")
