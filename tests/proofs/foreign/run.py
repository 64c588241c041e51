"""Fetches a project's source distribution and runs its tests in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .suites import Suite

ROOT = Path(__file__).parents[3]


class NotFetched(Exception):
    """The source distribution, or what its tests need, could not be fetched."""


@dataclass(frozen=True)
class Comparison:
    """What the tests of one suite came to, by test id: with our sessions, and with Flask's own."""

    suite: Suite
    ours: dict[str, str]
    flasks: dict[str, str]

    @property
    def passed(self) -> int:
        """How many tests pass with our sessions."""
        return list(self.ours.values()).count("passed")

    @property
    def differ(self) -> set[str]:
        """The tests that pass with Flask's sessions and not with ours."""
        return {test for test, outcome in self.flasks.items() if outcome == "passed" != self.ours.get(test)}

    @property
    def unexpected(self) -> set[str]:
        """The tests that differ for no known reason, and those that no longer differ."""
        return self.differ ^ set(self.suite.expected)


def compare(suite: Suite, folder: Path) -> Comparison:
    """Fetch the suite into ``folder`` and run it with both kinds of session. Raises `NotFetched`."""
    source = _fetched(suite, folder)
    ours = _outcomes(source, folder)
    return Comparison(suite, ours, _outcomes(source, folder, TOKENROTATE_FOREIGN_CONTROL="1"))


def _fetched(suite: Suite, folder: Path) -> Path:
    archives = folder / "archives"
    _pip("download", "--no-binary", ":all:", "--no-deps", "--dest", str(archives), suite.requirement)
    if suite.needs:
        _pip("install", "--no-deps", "--target", str(folder / "needs"), *suite.needs)
    [archive] = archives.iterdir()
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    [source] = (each.parent for each in folder.glob("*/PKG-INFO"))
    return source


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise NotFetched(f"pip {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")


def _outcomes(source: Path, folder: Path, **environment: str) -> dict[str, str]:
    outcomes = folder / "outcomes.json"
    outcomes.unlink(missing_ok=True)
    path = os.pathsep.join(map(str, (ROOT, folder / "needs", source / "src")))
    plugins = ["-p", f"{__package__}.plugin", "-p", "no:tokenrotate", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "tests"],
        cwd=source,
        env={
            **os.environ,
            **environment,
            "PYTHONPATH": path,
            "TOKENROTATE_FOREIGN_OUTCOMES": str(outcomes),
            "TOKENROTATE_FOREIGN_FOLDER": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    if not outcomes.exists():
        raise RuntimeError(f"The tests in {source} were not run:\n{done.stdout}\n{done.stderr}")
    found: dict[str, str] = json.loads(outcomes.read_text())
    return found
