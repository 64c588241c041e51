"""Imports point one way: web -> rotation <- storage, providers; the extension wires.

Read from the source, so that a late import counts as well. What is imported for annotations only
(``if TYPE_CHECKING:``) may be a little more.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "flask_tokenrotate"

ALLOWED = {
    "errors": set(),
    "clock": set(),
    "forks": set(),
    "loopback": set(),
    "attempts": {"rotation"},
    "maintenance": {"storage"},
    "config": {"errors", "flask"},
    "rotation": {"errors", "forks"},
    "storage": {
        "errors", "forks", "attempts", "rotation", "sqlalchemy", "cryptography", "pymysql", "psycopg",
    },
    "sessions": {"errors", "rotation", "storage", "web", "flask", "msgspec", "werkzeug", "sqlalchemy"},
    "providers": {"errors", "loopback", "rotation", "requests", "requests_oauthlib", "oauthlib", "urllib3"},
    "testing": {
        "errors", "attempts", "rotation", "sessions", "web", "requests", "oauthlib", "werkzeug", "jinja2",
        "pytest", "click",
    },
    "web": {
        "errors", "config", "loopback", "attempts", "maintenance", "rotation", "sessions", "flask", "msgspec",
        "blinker", "click", "requests", "werkzeug", "testing",
    },
    "extension": {"errors", "rotation", "web", "wiring", "flask"},
    "wiring": {
        "errors", "config", "clock", "maintenance", "rotation", "storage", "sessions", "providers", "web",
        "flask",
    },
    "__init__": {"errors", "extension", "web"},
}  # fmt: skip

FOR_ANNOTATIONS = {"web": {"providers"}, "testing": {"flask", "_typeshed"}}
"""What a part may import for annotations, beside the parts above."""

ONLY_IN = {
    ("testing", "web"): {"testing/pytest_plugin.py"},
    ("web", "testing"): {"web/cli.py"},
}
"""Exceptions for one file: the plugin signs a test client in, the commands call one function each."""

STDLIB = __import__("sys").stdlib_module_names


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the part of the package, or the distribution, that each import names; True: for annotations."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    package = ("flask_tokenrotate", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], id(node) in hidden) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = [*base, *(node.module or "").split(".")] if node.module else [*base]
            names = [full] if node.module else [[*full, alias.name] for alias in node.names]
            for name in names:
                inside = name[0] == "flask_tokenrotate"
                part = (name[1] if len(name) > 1 else "__init__") if inside else name[0]
                yield part, id(node) in hidden


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    """No module reaches across the arrows of the design."""
    part = part_of(path)
    assert part in ALLOWED, f"{part} is a new part: say here what it may import"
    for name, for_annotations in imported(path):
        if name == part or name in STDLIB:
            continue
        allowed = ALLOWED[part] | (FOR_ANNOTATIONS.get(part, set()) if for_annotations else set())
        assert name in allowed, f"{path.name} imports {name}"
        only = ONLY_IN.get((part, name))
        assert only is None or str(path.relative_to(PACKAGE)) in only, f"{path.name} imports {name}"


def test_the_protocol_knows_no_library() -> None:
    """The control of the test above: it does see the imports that it is to judge."""
    seen = {part_of(path): set() for path in modules()}
    for path in modules():
        seen[part_of(path)] |= {name for name, _ in imported(path)} - STDLIB
    assert "sqlalchemy" in seen["storage"]
    assert "flask" in seen["web"]
    assert "rotation" in seen["web"]
    assert "providers" in seen["web"]  # for annotations only
    assert "storage" not in seen["web"]
    assert seen["rotation"] <= {"rotation", "errors", "forks"}
