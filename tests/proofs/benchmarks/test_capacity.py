"""The arithmetic of a large deployment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .capacity import Deployment, Measured, rows
from .report import markdown

DOCS = Path(__file__).parents[3] / "docs"
MEASURED = Measured(
    client_us=1000.0,
    server_us=500.0,
    read_us=200.0,
    wal_bytes=1500.0,
    hit_us=10.0,
    miss_us=500.0,
    grant_bytes=900.0,
    ledger_bytes=400.0,
)


def test_the_arithmetic() -> None:
    """A thousand rotations and a thousand requests a second, worked out by hand."""
    deployment = Deployment(
        users=3_600_000, lifetime=3600.0, provider=0.25, requests=1.0, miss=0.5, request_ms=10.0
    )
    table = {what: how_much for what, how_much, _ in rows(deployment, MEASURED)}
    assert table["rotations a second"] == "1000"
    assert table["requests a second"] == "1000"
    # 1000 × 1 ms, 1000 × 10 µs and 500 × 500 µs.
    assert table["processors for the extension, web hosts"] == "1.26"
    assert table["processors for the application's own work"] == "10"
    assert table["web hosts"] == "3"
    assert table["rotation threads that wait for the provider"] == "250"
    assert table["reads of a row a second"] == "1500"
    assert table["write transactions a second"] == "2000"
    assert table["processors of PostgreSQL"] == "0.6"
    assert table["write-ahead log, MB a second"] == "1.5"
    assert table["grants' table and indexes, GB"] == "3.24"
    assert table["ledger, GB a day"] == "34.6"


def test_a_workload_that_was_not_measured_is_missed() -> None:
    """No figure is made up."""
    with pytest.raises(KeyError, match="Processes that only rotate"):
        Measured.of({"reports": []})


def test_the_page_has_the_table_of_the_committed_figures() -> None:
    """What docs/operations.md shows is what the script prints."""
    figures = json.loads((DOCS / "performance" / "figures.json").read_text())
    table = markdown(("what", "how much", "calculated from"), rows(Deployment(), Measured.of(figures)))
    assert table in (DOCS / "operations.md").read_text()
