"""How many rotations PostgreSQL takes, and what each costs it: reads, claims and saves without a provider.

Processes that do nothing else rotate grants of their own, as fast as they can. Client and server share this
machine's processors: what the clients did not use of them went to the server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from ..lab import Lab
from ..report import Report, Table

PROCESSES = (1, 2, 4, 8)
READS_ONLY = "4, reads alone"
GRANTS = 50
"""Of each process."""

COLUMNS = [
    "processes",
    "rotations a second",
    "client's processor, µs for each",
    "server's processor, µs for each",
    "log written (WAL), bytes for each",
    "median ms",
]


@dataclass(frozen=True, slots=True)
class Run:
    """What the processes of one run came to."""

    rotations: int
    seconds: float
    client: float
    busy: float
    wal: float
    milliseconds: float

    def row(self, title: str) -> list[str | float | None]:
        """Return the cells of the table."""
        server = max(self.busy - self.client, 0.0)
        each = [1e6 * self.client, 1e6 * server, self.wal]
        cells = [float(value / self.rotations) for value in each]
        return [title, self.rotations / self.seconds, *cells, self.milliseconds]


def measure(lab: Lab) -> Report:
    """Run more and more processes, then as many with notifications, as for claims that requests wait for."""
    uri = lab.servers.new_database("postgresql")
    seconds = lab.scaled(lab.rounds + 1, 1)
    runs = [(str(count), _run(uri, count, seconds)) for count in PROCESSES]
    runs += [
        (f"{count}, and each notifies", _run(uri, count, seconds, "--notify")) for count in PROCESSES[1:]
    ]
    runs.append((READS_ONLY, _run(uri, PROCESSES[-2], seconds, "--read")))
    rows = [run.row(title) for title, run in runs]
    note = (
        "A rotation here is one read, one claim and one save. Nearly all rotations are ahead of expiry and "
        "notify nobody; on PostgreSQL transactions that notify commit one after the other. fsync is as the "
        "server is configured. Reads alone: the read of a cache miss."
    )
    table = Table(title="Processes that only rotate", columns=COLUMNS, rows=rows, plot=1, note=note)
    return Report(name="rotations", title="Rotations on PostgreSQL", tables=[table])


def _run(uri: str, processes: int, seconds: int, *options: str) -> Run:
    command = [sys.executable, "-m", __name__, uri, str(seconds), *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(processes)]  # type: ignore[call-overload]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    wal, busy, start = _wal(uri), _busy(), time.monotonic()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [json.loads(child.stdout.readline()) for child in children]
    took = time.monotonic() - start
    busy, wal = _busy() - busy, _wal(uri) - wal
    for child in children:
        child.communicate()
    return Run(
        rotations=sum(each["rotations"] for each in told),
        seconds=took,
        client=sum(each["client"] for each in told),
        busy=busy,
        wal=wal,
        milliseconds=median(each["milliseconds"] for each in told),
    )


def _wal(uri: str) -> float:
    engine = create_engine(uri, poolclass=NullPool)
    with engine.connect() as connection:
        return float(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'")).scalar_one())


def _busy() -> float:
    """Return the seconds for which this machine's processors have worked."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields[:8]) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def rotate(uri: str, seconds: float, *, notify: bool, read: bool) -> None:
    """Rotate, or only ``read``, until the time is over and print what that was."""
    from flask_tokenrotate.rotation.tokens import Claim, NewGrant, Secret, TokenResponse
    from flask_tokenrotate.storage.database.engine import Database
    from flask_tokenrotate.storage.database.tables import create_tables
    from flask_tokenrotate.storage.grants import SqlGrantStore
    from flask_tokenrotate.storage.sealed.sealing import Sealer

    database = Database.from_uri(uri)
    create_tables(database.engine())
    store = SqlGrantStore(database, Sealer([bytes(32)]))
    answer = TokenResponse(access_token=Secret("a" * 43), refresh_token=Secret("r" * 43), expires_in=3600.0)
    ids = [store.add(NewGrant(provider="fake", response=answer)).id for _ in range(GRANTS)]

    def rotation(grant_id: str) -> None:
        seen = store.load(grant_id)
        assert seen is not None
        if read:
            return
        claim = store.try_claim(seen, doubts=0, holder="benchmark", seconds=10.0, awaited=notify)
        assert isinstance(claim, Claim)
        store.save(seen, claim, seen.tokens, http_status=200)

    for grant_id in ids:
        rotation(grant_id)
    print("ready", flush=True)
    sys.stdin.readline()
    times: list[float] = []
    cpu, until = time.process_time(), time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        rotation(ids[len(times) % GRANTS])
        times.append(time.monotonic() - began)
    told = {"rotations": len(times), "client": time.process_time() - cpu, "milliseconds": 1e3 * median(times)}
    print(json.dumps(told), flush=True)
    database.engine().dispose()


if __name__ == "__main__":
    rotate(sys.argv[1], float(sys.argv[2]), notify="--notify" in sys.argv, read="--read" in sys.argv)
