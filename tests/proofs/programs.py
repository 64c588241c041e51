"""The programs: what each shows, how long it takes, and where its code is.

The module of a program has ``add_options(parser)`` and ``run(options)``, which returns the exit code. Its
options are by default those of the short form; ``options.full`` says whether the full form was asked for.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program. ``full``: the options of the full form, as far as they differ from the short form's.

    ``short_takes``, ``full_takes``: how long it runs on two cores.
    """

    name: str
    shows: str
    short_takes: str
    full_takes: str
    module: str
    full: Mapping[str, object] = field(default_factory=dict)

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Return the program's options. Raises `SystemExit` for ``--help`` and for mistakes."""
        parser = argparse.ArgumentParser(
            prog=f"python -m tests.proofs {self.name}",
            description=f"Shows: {self.shows}. Takes {self.short_takes}, in full {self.full_takes}.",
            allow_abbrev=False,
        )
        full = " ".join(f"--{name} {value}" for name, value in self.full.items())
        parser.add_argument("--full", action="store_true", help=full or "run everything")
        self._code().add_options(parser)
        if "--full" in arguments:
            parser.set_defaults(**self.full)
        return parser.parse_args(arguments)

    def run(self, options: argparse.Namespace) -> int:
        """Run the program and return its exit code."""
        return int(self._code().run(options))

    def _code(self) -> Any:
        return importlib.import_module(f"{__package__}.{self.module}")


PROGRAMS = [
    Program(
        name="simulation",
        shows="no order of steps, crashes and faults breaks the rotation protocol",
        short_takes="1 min",
        full_takes="10 min",
        module="simulation.command",
        full={"schedules": 200_000},
    ),
    Program(
        name="fuzz",
        shows="no input breaks a parser of outside data",
        short_takes="1 min",
        full_takes="5 min",
        module="fuzz.command",
        full={"examples": 100_000},
    ),
    Program(
        name="storms",
        shows="requests that all find the same expired token cost one redemption",
        short_takes="1 min",
        full_takes="3 min",
        module="storms.command",
        full={"sessions": 50, "requests": 16, "processes": 4},
    ),
    Program(
        name="faults",
        shows="a fault at any step of a redemption costs no session",
        short_takes="5 min",
        full_takes="15 min",
        module="faults.command",
        full={"rounds": 3},
    ),
    Program(
        name="slow",
        shows="a provider slower than any request waits costs waiting time, and no session",
        short_takes="2 min",
        full_takes="6 min",
        module="slow.command",
        full={"rounds": 3},
    ),
    Program(
        name="failover",
        shows="a database that fails over costs no session and no second redemption",
        short_takes="2 min",
        full_takes="3 min",
        module="failover.command",
        full={"sessions": 40, "seconds": 20.0},
    ),
    Program(
        name="soak",
        shows="many rotations under random faults lose no session and leak nothing",
        short_takes="2 min",
        full_takes="40 min",
        module="soak.command",
        full={"rotations": 100_000, "grants": 2000},
    ),
    Program(
        name="foreign",
        shows="Flask's and Flask-Login's own tests pass with this extension's sessions",
        short_takes="1 min",
        full_takes="1 min",
        module="foreign.command",
    ),
    Program(
        name="instructions",
        shows="a fresh token costs a request no more instructions than before",
        short_takes="1 min",
        full_takes="1 min",
        module="benchmarks.instructions",
    ),
    Program(
        name="benchmarks",
        shows="how fast the extension is next to what could be used in its place",
        short_takes="3 min",
        full_takes="11 min",
        module="benchmarks.command",
    ),
    Program(
        name="capacity",
        shows="what ten million users take, from the figures of the benchmarks",
        short_takes="1 s",
        full_takes="1 s",
        module="benchmarks.capacity",
    ),
]
