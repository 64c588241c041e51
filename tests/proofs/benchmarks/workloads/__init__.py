"""The workloads by name, in the order in which they run. Each module has ``measure(lab) -> Report``."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ..lab import Lab
from ..report import Report

NAMES = (
    "overhead",
    "served",
    "storm",
    "steady",
    "slow",
    "outage",
    "growth",
    "rotations",
    "sessions",
    "memory",
    "imports",
)


def workload(name: str) -> Callable[[Lab], Report]:
    """Return the function that measures the workload ``name``."""
    measure: Callable[[Lab], Report] = importlib.import_module(f"{__name__}.{name}").measure
    return measure
