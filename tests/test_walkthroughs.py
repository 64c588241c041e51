"""docs/walkthroughs.md names modules and functions that exist, and each walk-through is short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from flask_tokenrotate.config import Settings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "flask_tokenrotate"
PAGE = (ROOT / "docs" / "walkthroughs.md").read_text()
WALKS = dict(re.findall(r"^## (.+)\n\n((?:.+\n)+)", PAGE, re.MULTILINE))
STEP = re.compile(r"(\d+)\. `([\w/]+\.py)` `([\w.]+)`[:,] \S")
ELSEWHERE = {"before_request", "login_url", "signed_out"}
"""What Flask, a response and a row call by these names."""


def names_in(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Yield what a module or class defines: ``function``, ``Class``, ``Class.method``, ``Class.MEMBER``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from names_in(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign):
            yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))


NAMES = {
    path.relative_to(PACKAGE): set(names_in(ast.parse(path.read_text()))) for path in PACKAGE.rglob("*.py")
}
EVERY_NAME = {name for names in NAMES.values() for name in names} | {
    f"{path.stem}.{name}" for path, names in NAMES.items() for name in names
}
SETTINGS = {f"TOKENROTATE_{each.name.upper()}" for each in fields(Settings)}


def steps(walk: str) -> list[str]:
    """Return the steps of a walk-through, each on one line."""
    return re.sub(r"\n +", " ", walk).splitlines()


def faults(walk: str) -> list[str]:
    """Return what is wrong with the names of a walk-through."""
    found = []
    for number, step in enumerate(steps(walk), start=1):
        match = STEP.match(step)
        if match is None or int(match[1]) != number:
            found.append(f"not a step: {step}")
        elif match[3] not in NAMES.get(Path(match[2]), set()):
            found.append(f"{match[2]} has no {match[3]}")
        spans = set(re.findall(r"`([^`]+)`", step)) - ({match[2]} if match else set())
        found += [f"no {name}" for name in sorted(spans - EVERY_NAME - SETTINGS - ELSEWHERE)]
    return found


def test_there_are_three_walk_throughs() -> None:
    """The test below looks at all of the page."""
    assert len(WALKS) == 3
    assert sum(len(steps(walk)) for walk in WALKS.values()) == len(re.findall(r"^\d+\. ", PAGE, re.MULTILINE))


@pytest.mark.parametrize("title", WALKS)
def test_each_name_exists(title: str) -> None:
    """Every step begins with a module and what it defines; every other name is defined somewhere."""
    assert faults(WALKS[title]) == []


@pytest.mark.parametrize("title", WALKS)
def test_each_is_short(title: str) -> None:
    """A walk-through is read at one go: at most 25 lines."""
    assert len(WALKS[title].splitlines()) <= 25


def test_a_wrong_name_is_found() -> None:
    """The control: a module, a function and a method that do not exist are each named."""
    walk = (
        "1. `web/before_request.py` `load_session`: calls `RequestGrants.lode`.\n"
        "2. `web/request.py` `load`: and so on.\n"
        "3. `rotation/memo.py` `Looks.join`: in another module.\n"
    )
    assert faults(walk) == [
        "no RequestGrants.lode",
        "web/request.py has no load",
        "no load",
        "rotation/memo.py has no Looks.join",
    ]


def test_the_reading_order_of_the_readme_leads_here() -> None:
    """A newcomer finds the page from the README."""
    assert "](docs/walkthroughs.md)" in (ROOT / "README.md").read_text()
