"""SECURITY.md says what is done about each point, and its links lead to tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| (?!point )", line)
]
LINK = re.compile(r"\[(test_\w+)\]\((tests/[\w/]+\.py)\)")
POINTS = (
    [f"2.{n}" for n in ("1", "1.1", "1.2", "2.1", "2.2", "3", "4", "5", "6")]
    + [f"4.{n}" for n in range(1, 18)]
    + [f"10.{n}" for n in range(1, 17)]
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_has_a_test_that_exists(row: list[str]) -> None:
    """No cell is empty, and the last holds links to functions that are there."""
    assert len(row) == 3
    assert all(row)
    links = LINK.findall(row[2])
    assert ", ".join(f"[{name}]({path})" for name, path in links) == row[2]
    for name, path in links:
        assert re.search(rf"^\s*def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}: {name}"


def test_no_point_is_left_out() -> None:
    """Each point of RFC 9700 sections 2 and 4 and of RFC 6749 section 10 has its row, in order."""
    assert [row[0].split()[0] for row in ROWS if row[0][0].isdigit()] == POINTS
