"""Runs every cell on one engine and compares what is seen with what is expected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .bench import bench
from .cell import Seen, play
from .table import FAULTS, LIMITS, STEPS, Expected, expected

MOST_PRESENTATIONS = 2


@dataclass(frozen=True)
class Result:
    """One cell on one engine; ``faults`` says what is wrong with it and is empty where all is well."""

    engine: str
    provider: str
    step: str
    fault: str
    expected: Expected
    seen: Seen

    @property
    def faults(self) -> list[str]:
        """What differs from what is expected, and every contradiction between log, ledger and row."""
        return [*self.seen.trouble, *self._differences()]

    def _differences(self) -> Iterator[str]:
        for name in ("first", "other", "next"):
            wanted, got = getattr(self.expected, name), getattr(self.seen, name)
            if got not in wanted.split(" or "):
                yield f"{name}: {got!r} instead of {wanted!r}"
        if self.seen.well != self.expected.well:
            yield f"well: {self.seen.well} instead of {self.expected.well}"
        most = max(self.seen.presentations, default=0)
        if most > MOST_PRESENTATIONS or (most == MOST_PRESENTATIONS) != self.expected.replayed:
            yield f"the provider looked at its refresh tokens {self.seen.presentations} times"

    def __str__(self) -> str:
        return f"{self.engine}, {self.provider}, {self.fault} at {self.step}: {'; '.join(self.faults)}"


def run_cells(engine: str, folder: Path) -> list[Result]:
    """Play all cells, and those of `LIMITS`, on ``engine``; files go to ``folder``. Raises `Unavailable`."""
    cells = [("replaying", s, f, expected(engine, s, f)) for f in FAULTS for s in STEPS]
    cells += [("careful", step, fault, wanted) for (fault, step), wanted in LIMITS.items()]
    with bench(engine, folder) as place:
        return [
            Result(engine, provider, step, fault, wanted, play(place, step, fault, f"{number}", provider))
            for number, (provider, step, fault, wanted) in enumerate(cells)
        ]
