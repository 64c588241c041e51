"""The storm on the command line: its figures, its table, its exit code."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from example_app import __main__ as command
from example_app.storm import Figures, percentile, table

from ..proofs.storms.run import run_storm, wrong
from ..servers import ENGINES
from ..servers.processes import ROOT

KEYS = [
    "requests_ok",
    "requests_failed",
    "redemptions_per_expiry",
    "families_revoked",
    "sessions_lost",
    "p50_ms",
    "p99_ms",
]
GOOD = Figures(
    requests_ok=16,
    requests_failed=0,
    redemptions_per_expiry=1.0,
    families_revoked=0,
    sessions_lost=0,
    p50_ms=100.0,
    p99_ms=200.0,
)


def test_a_small_storm(tmp_path: Path) -> None:
    """The extension redeems once and loses nothing; the control in the same run loses sessions."""
    done, figures = run_storm(tmp_path, "--sessions", "4", "--requests", "4", "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert list(figures) == ["protected", "unprotected"]
    for name in figures:
        assert list(figures[name]) == KEYS
        assert all(type(value) in (int, float) for value in figures[name].values())
        assert 0 < figures[name]["p50_ms"] <= figures[name]["p99_ms"]
    assert wrong(figures, requests=16) == []
    assert "redemptions per expiry" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("database", ENGINES[1:], indirect=True)
def test_a_small_storm_on_a_server(database: str, tmp_path: Path) -> None:
    """``--database`` makes the tables there and keeps the grants there."""
    options = ["--sessions", "2", "--requests", "4", "--processes", "2", "--database", database]
    done, figures = run_storm(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert wrong(figures, requests=8) == []
    engine = create_engine(database)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM tokenrotate_grants")).scalar() == 2
    engine.dispose()


def test_a_database_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """A database that cannot be used ends the storm with a message and exit code 1, no traceback."""
    command = [sys.executable, "-m", "example_app", "--storm", "--database", "oracle://nowhere/none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "The tables could not be made" in done.stderr


@pytest.mark.parametrize(
    "loss",
    [
        {"requests_failed": 1},
        {"families_revoked": 1},
        {"sessions_lost": 1},
        {"redemptions_per_expiry": 1.02},
        {"redemptions_per_expiry": 0.98},
    ],
    ids=str,
)
def test_a_loss_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, loss: dict[str, Any]) -> None:
    """Each kind of loss by the extension makes the exit code 1; what the control loses does not."""
    lossy = replace(GOOD, **loss)
    for protected, unprotected, code in [(GOOD, lossy, 0), (lossy, GOOD, 1)]:
        figures = {"protected": protected, "unprotected": unprotected}
        monkeypatch.setattr(command, "run_storm", lambda name, plan, folder, f=figures: f[name])
        assert command.main(["--storm"]) == code


def test_percentiles_are_values_that_occurred() -> None:
    """A percentile is the smallest value that enough others do not exceed."""
    times = [float(number) for number in range(1, 101)]
    assert percentile(times, 0.50) == 50.0
    assert percentile(times, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


def test_the_table_names_every_figure() -> None:
    """Each figure has a line with one value for each application."""
    lines = table({"protected": GOOD, "unprotected": replace(GOOD, sessions_lost=4)}).splitlines()
    assert lines[0].split() == ["protected", "unprotected"]
    assert [line.rsplit(maxsplit=2)[0] for line in lines[1:]] == [key.replace("_", " ") for key in KEYS]
    assert lines[5].split()[-2:] == ["0", "4"]


@pytest.mark.parametrize("option", ["--sessions", "--requests", "--processes", "--port"])
def test_numbers_are_positive(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A count or a port below 1 is a mistake that is told before anything starts."""
    with pytest.raises(SystemExit) as refused:
        command.main([option, "0"])
    assert refused.value.code == 2
    assert "0 is not a whole number above 0" in capsys.readouterr().err
