"""Writes the table as a page of the documentation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from .cells import Result
from .table import FAULTS, LIMITS, STEPS, Expected, expected

_INTRODUCTION = """# What a fault costs

This page is written by `python -m tests.proofs faults --rounds {rounds} --write docs/faults.md`. One of three
worker processes is halted at a step of a redemption, the fault comes exactly there, and all goes on. Then the
provider's own log, the ledger (as `flask tokenrotate verify` reads it) and the grant's row have to agree, and
the session has to rotate once more.

Run on {engines}, {rounds} times each:
{cells} cells, {red} red. A claim stands for 1.4 s here, and its live holder renews it, for 4 s instead of 60;
a doubt settles for 0.8 s. SQLite has no server to stop or to cut off: its file is locked for writers, and its
COMMIT fails.
"""

_TABLE = """
## A provider with a grace period, whose profile says `replay`

The access token has expired in every cell; one that is still valid is served meanwhile. Each cell: what the
request gets that waits for the redemption / what another request of that session gets meanwhile. *then* is
the next rotation of the session while the fault goes on, where the fault came too late for this one. ⟲: the
refresh token was presented twice, which the grace period is for. In every cell the session lives afterwards.
✔ green on every engine in every round, ✘ not.

Why the cells are as they are:

- A provider that is slow costs waiting, and nothing else: the live holder renews its claim, so nobody else
  posts, and its response is saved.
- After a response that is lost the holder reports the doubt at once. The one replay comes when the provider
  has had time to finish what it may still be doing. Until then there is no token, so requests get 503; one
  that looks at the row after that replays, and is served.
- After a worker was killed or stopped nobody reports anything. Others wait for the claim's deadline and the
  settling time, then one of them replays: the request waits longer, and is served.
"""

_LIMITS = """
## The honest limit: a profile that says `reauthorize`

Where a refresh token may have been spent and its answer is gone, nothing is posted again. The user is asked
to sign in, and told why (`outcome_unknown`); whoever still has the answer saves it, and then nothing was
lost. A provider that is slow is no such case: its answer comes. At a provider without a grace period a
profile with `replay` fares no better: the second presentation is refused. That shows that the refresh token
was spent, not that nobody has the answer. So it is called `outcome_unknown` as well, and who has the answer
may save it.

| fault | at | redeems / other | afterwards | |
|---|---|---|---|---|
"""

_KEY = """
## What the user sees

- **200**: the page, with a new token.
- **503**: a page or problem document with `Retry-After`; nothing is lost, and the next try is served.
- **401**: sign in; `reason` is `outcome_unknown`.
- **broken**: the connection of the request that was in the killed worker. The browser's next try is served.

A provider that hangs for a minute twice, with the pause between, swallows the one replay as well. The session
is then asked to sign in, by name: `outcome_unknown`.
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
