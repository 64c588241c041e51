"""Imports point one way: web -> rotation <- storage, providers; the extension wires.

Read from the source, so that a late import counts as well. Imports for annotations only
(``if TYPE_CHECKING:``) are no dependency and do not count.
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
    "suggestions": set(),
    "attempts": {"rotation"},
    "config": {"errors", "suggestions", "flask"},
    "rotation": {"errors", "forks"},
    "storage": {
        "errors", "forks", "attempts", "rotation", "sqlalchemy", "cryptography", "pymysql", "psycopg",
    },
    "sessions": {"errors", "rotation", "storage", "web", "flask", "msgspec", "werkzeug", "sqlalchemy"},
    "providers": {
        "errors", "forks", "loopback", "suggestions", "rotation",
        "requests", "requests_oauthlib", "oauthlib", "urllib3",
    },
    "testing": {
        "errors", "attempts", "rotation", "sessions", "web",
        "requests", "oauthlib", "werkzeug", "jinja2", "pytest", "click",
    },
    "web": {
        "errors", "config", "loopback", "attempts", "rotation", "sessions", "storage", "providers", "testing",
        "flask", "msgspec", "blinker", "click", "requests", "werkzeug",
    },
    "extension": {"errors", "rotation", "web", "providers", "wiring", "flask"},
    "wiring": {"errors", "config", "clock", "rotation", "storage", "sessions", "providers", "web", "flask"},
    "__init__": {"errors", "extension", "web"},
}  # fmt: skip

ONLY_IN = {
    ("testing", "web"): {"testing/pytest_plugin.py"},
    ("web", "providers"): {"web/login.py"},
    ("web", "storage"): {"web/cli.py"},
    ("web", "testing"): {"web/cli.py"},
}
"""Exceptions for one file: the plugin signs a test client in, the others call one function each."""

STDLIB = __import__("sys").stdlib_module_names


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield the part of the package, or the distribution, that each import of a module names."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    package = ("flask_tokenrotate", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = [*base, *(node.module or "").split(".")] if node.module else [*base]
            names = [full] if node.module else [[*full, alias.name] for alias in node.names]
            for name in names:
                inside = name[0] == "flask_tokenrotate"
                yield (name[1] if len(name) > 1 else "__init__") if inside else name[0]


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    """No module reaches across the arrows of the design."""
    part = part_of(path)
    assert part in ALLOWED, f"{part} is a new part: say here what it may import"
    for name in imported(path):
        if name == part or name in STDLIB:
            continue
        assert name in ALLOWED[part], f"{path.name} imports {name}"
        only = ONLY_IN.get((part, name))
        assert only is None or str(path.relative_to(PACKAGE)) in only, f"{path.name} imports {name}"


def test_the_protocol_knows_no_library() -> None:
    """The control of the test above: it does see the imports that it is to judge."""
    seen = {part_of(path): set() for path in modules()}
    for path in modules():
        seen[part_of(path)] |= set(imported(path)) - STDLIB
    assert "sqlalchemy" in seen["storage"]
    assert "flask" in seen["web"]
    assert "rotation" in seen["web"]
    assert seen["rotation"] <= {"rotation", "errors", "forks"}
