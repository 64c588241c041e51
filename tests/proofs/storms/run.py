"""Plays ``python -m example_app --storm`` and says what is wrong with its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.processes import ROOT

Figures = Mapping[str, Any]


def run_storm(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Figures]]:
    """Play a storm; return the finished process and its figures, ``protected`` and ``unprotected``."""
    file = folder / "figures.json"
    command = [sys.executable, "-m", "example_app", "--storm", "--json", str(file), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if not file.exists():
        raise RuntimeError(f"the storm ended with exit code {done.returncode}: {done.stderr}")
    return done, json.loads(file.read_text())


def wrong(figures: Mapping[str, Figures], *, requests: int) -> list[str]:
    """Return what is wrong: the extension loses something, or the control does not."""
    return [*_lost(figures["protected"], requests), *_not_harmed(figures["unprotected"], requests)]


def _lost(figures: Figures, requests: int) -> list[str]:
    must_be = {
        "requests_ok": requests,
        "requests_failed": 0,
        "redemptions_per_expiry": 1.0,
        "families_revoked": 0,
        "sessions_lost": 0,
    }
    return [
        f"protected: {name} is {figures[name]} instead of {value}"
        for name, value in must_be.items()
        if figures[name] != value
    ]


def _not_harmed(figures: Figures, requests: int) -> list[str]:
    """A storm that does no harm without the extension shows nothing."""
    above = {"requests_failed": 0, "redemptions_per_expiry": 1, "families_revoked": 0, "sessions_lost": 0}
    found = [
        f"unprotected: {name} is {figures[name]}, not above {value}"
        for name, value in above.items()
        if figures[name] <= value
    ]
    if figures["requests_ok"] + figures["requests_failed"] != requests:
        found.append(f"unprotected: not {requests} requests")
    return found
