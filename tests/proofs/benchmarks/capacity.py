"""What a large deployment takes, calculated from the measured figures.

``python -m tests.proofs capacity [FIGURES] [--users N] [--lifetime S] …`` prints the table of
``docs/operations.md``. The figures are those that ``python -m tests.proofs benchmarks --json`` wrote.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.processes import ROOT

from .report import markdown, shown
from .workloads.rotations import READS_ONLY

FIGURES = ROOT / "docs" / "performance" / "figures.json"
DAY = 86_400.0
MEGABYTE, GIGABYTE = 1e6, 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The figures that the arithmetic takes, of one rotation, read, request or row each.

    ``client_us``, ``server_us``: processor time of a rotation in the application and in PostgreSQL;
    ``read_us``: of a read in PostgreSQL.
    """

    client_us: float
    server_us: float
    read_us: float
    wal_bytes: float
    hit_us: float
    miss_us: float
    grant_bytes: float
    ledger_bytes: float

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> Measured:
        """Return them out of what the benchmarks wrote. Raises `KeyError` where a workload is missing."""
        tables = {table["title"]: table for report in figures["reports"] for table in report["tables"]}
        rotations = tables["Processes that only rotate"]
        busiest = max(
            (row for row in rotations["rows"] if row[0].isdigit()), key=lambda row: float(row[1] or 0)
        )
        added = {row[0]: row[2] for row in tables["Added by a fresh token"]["rows"]}
        largest = tables["Space"]["rows"][-1]
        return cls(
            client_us=busiest[2],
            server_us=busiest[3],
            read_us=next(row[3] for row in rotations["rows"] if row[0] == READS_ONLY),
            wal_bytes=busiest[4],
            hit_us=added["Flask-TokenRotate"],
            miss_us=added["Flask-TokenRotate, cache miss"],
            grant_bytes=largest[2],
            ledger_bytes=largest[5],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """What is assumed; durations in seconds.

    ``provider``: how long its token endpoint takes. ``requests``: of each user an hour, ``request_ms``: the
    application's own processor time for each; ``miss``: the share of them whose grant is not in the process
    cache. ``cores``, ``processes`` and ``threads`` (of each process): a web host. ``keep_days``: the ledger.
    """

    users: int = 10_000_000
    lifetime: float = 3600.0
    provider: float = 0.1
    requests: float = 20.0
    miss: float = 0.5
    cores: int = 8
    processes: int = 8
    threads: int = 8
    request_ms: float = 20.0
    keep_days: float = 7.0


def rows(deployment: Deployment, measured: Measured) -> list[Sequence[str]]:
    """Return the table: what, how much, and how it is calculated."""
    rotations = deployment.users / deployment.lifetime
    requests = deployment.users * deployment.requests / 3600
    misses = requests * deployment.miss
    ours = (rotations * measured.client_us + requests * measured.hit_us + misses * measured.miss_us) / 1e6
    theirs = requests * deployment.request_ms / 1e3
    hosts = math.ceil((ours + theirs) / (0.5 * deployment.cores))
    waiting = rotations * deployment.provider
    reads = misses + rotations
    database = (rotations * measured.server_us + misses * measured.read_us) / 1e6
    ledger = rotations * measured.ledger_bytes * DAY
    processes = hosts * deployment.processes
    return [
        ("rotations a second", shown(rotations), "users ÷ lifetime of a token"),
        ("requests a second", shown(requests), "users × requests in an hour ÷ 3600"),
        ("processors for the extension, web hosts", shown(ours), "rotations, cache hits and misses"),
        ("processors for the application's own work", shown(theirs), "requests × its own time"),
        ("web hosts", shown(hosts), f"{deployment.cores} processors each, half busy"),
        ("rotation threads that wait for the provider", shown(waiting), "rotations × its time (Little)"),
        (
            "rotation threads for each 100 of the web servers'",
            shown(100 * waiting / (processes * deployment.threads)),
            "",
        ),
        ("reads of a row a second", shown(reads), "cache misses, and one for each rotation"),
        ("write transactions a second", shown(2 * rotations), "a claim and a save"),
        ("processors of PostgreSQL", shown(database), "rotations, and reads of cache misses"),
        ("write-ahead log, MB a second", shown(rotations * measured.wal_bytes / MEGABYTE), "to each standby"),
        ("grants' table and indexes, GB", shown(deployment.users * measured.grant_bytes / GIGABYTE), "flat"),
        ("ledger, GB a day", shown(ledger / GIGABYTE), "one row for each rotation, and its indexes"),
        (
            f"ledger, GB after {shown(deployment.keep_days)} days",
            shown(ledger * deployment.keep_days / GIGABYTE),
            "flask tokenrotate prune-ledger",
        ),
        ("connections to PostgreSQL, at most", shown(processes * 15), "15 for each process, unless set"),
        (
            "connections in use at a time",
            shown((rotations * (measured.client_us + measured.server_us) + misses * measured.miss_us) / 1e6),
            "statements × their time (Little): what a pooler needs",
        ),
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    parser.add_argument(
        "figures",
        type=Path,
        nargs="?",
        default=FIGURES,
        help="what the benchmarks wrote with --json (docs/performance/figures.json)",
    )
    for name in Deployment.__slots__:
        default = getattr(Deployment(), name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help=f"({default})")


def run(options: argparse.Namespace) -> int:
    """Print the table for the figures and assumptions of the command line."""
    measured = Measured.of(json.loads(options.figures.read_text()))
    deployment = Deployment(**{name: getattr(options, name) for name in Deployment.__slots__})
    print(markdown(("what", "how much", "calculated from"), rows(deployment, measured)))
    return 0
