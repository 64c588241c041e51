"""Runs many schedules, in several processes at once."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import Counter

from .referee import EVENTS
from .search import first_violation

ENOUGH = 1000
"""Schedules from which on each of `EVENTS` has to have happened, or the search is not worth its name."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    parser.add_argument("--schedules", type=int, default=20_000, help="how many to try (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds draw other ones (%(default)s)")
    parser.add_argument(
        "--processes",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="how many search at once (one for each processor)",
    )


def run(options: argparse.Namespace) -> int:
    """Search, and print a summary or the schedule that fails; 1 if one does."""
    began = time.perf_counter()
    shares = _shares(options.schedules, options.processes, options.seed)
    with multiprocessing.Pool(len(shares)) as pool:
        found = pool.starmap(_search, shares)
    took = time.perf_counter() - began
    violations = [violation for violation, _ in found if violation is not None]
    if violations:
        print(violations[0])
        return 1
    events = sum((seen for _, seen in found), Counter[str]())
    seeds = ", ".join(str(seed) for _, seed in shares)
    rate = options.schedules / took
    print(f"{options.schedules} schedules (seeds {seeds}), no violation, {rate:.0f} a second")
    print("; ".join(f"{name}: {events[name]}" for name in EVENTS))
    missing = [name for name in EVENTS if not events[name]]
    if missing and options.schedules >= ENOUGH:
        print(f"never happened: {', '.join(missing)}")
        return 1
    return 0


def _shares(schedules: int, processes: int, seed: int) -> list[tuple[int, int]]:
    """Return for each process how many schedules it runs, and with which seed."""
    each, rest = divmod(schedules, processes)
    shares = [(each + (number < rest), seed + number) for number in range(processes)]
    return [share for share in shares if share[0]]


def _search(schedules: int, seed: int) -> tuple[str | None, Counter[str]]:
    events: Counter[str] = Counter()
    violation = first_violation(schedules, seed=seed, events=events)
    return None if violation is None else str(violation), events
