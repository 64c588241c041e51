"""SECURITY.md says what is done about each point, and its links lead to tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+)\n\n((?:(?!#).*\n)+)", PAGE, re.MULTILINE))
LINK = re.compile(r"\[(test_\w+)\]\((tests/[\w/]+\.py)\)")
POINTS = (
    [f"2.{n}" for n in ("1", "1.1", "1.2", "2.1", "2.2", "3", "4", "5", "6")]
    + [f"4.{n}" for n in range(1, 18)]
    + [f"10.{n}" for n in range(1, 17)]
)


@pytest.mark.parametrize("point", SECTIONS)
def test_each_point_has_a_test_that_exists(point: str) -> None:
    """It says what is done, and ends with links to functions that are there."""
    text, _, tests = SECTIONS[point].strip().partition("\n\nTests: ")
    assert text
    links = LINK.findall(tests)
    assert ", ".join(f"[{name}]({path})" for name, path in links) == " ".join(tests.split())
    for name, path in links:
        assert re.search(rf"^\s*def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}: {name}"


def test_no_point_is_left_out() -> None:
    """Each point of RFC 9700 sections 2 and 4 and of RFC 6749 section 10 has its section, in order."""
    assert [point.split()[0] for point in SECTIONS if point[0].isdigit()] == POINTS


def test_every_heading_is_looked_at() -> None:
    """The control of the tests above: no section of the page escapes them."""
    assert len(SECTIONS) == len(re.findall(r"^###", PAGE, re.MULTILINE))
