"""Imports point one way: web, sessions -> rotation <- storage, providers; the extension and wiring wire.

Read from the source. Late imports count, and so do imports for types only: who names a type of another
part depends on it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

NAME = "flask_tokenrotate"
PACKAGE = Path(__file__).parent.parent / NAME
PLUGIN = PACKAGE.parent / "pytest_flask_tokenrotate.py"

ALLOWED = {
    "errors": "",
    "clock": "",
    "forks": "",
    "loopback": "",
    "secure_urls": "errors loopback",
    "provider": "errors secure_urls rotation",
    "application_engine": "sqlalchemy",
    "cookies": "loopback flask",
    "threads": "forks rotation",
    "setting_kinds": "errors",
    "suggestions": "",
    "config": "errors setting_kinds suggestions flask",
    "attempts": "rotation",
    "maintenance": "storage",
    "rotation": "errors forks",
    "storage": "errors forks attempts rotation sqlalchemy cryptography pymysql psycopg",
    "sessions": "errors loopback cookies rotation flask flask_session msgspec werkzeug sqlalchemy",
    "providers": "errors forks secure_urls attempts provider suggestions rotation requests requests_oauthlib "
    "oauthlib urllib3",
    "testing": "errors attempts rotation sessions flask requests oauthlib werkzeug jinja2 click _typeshed",
    "web": "errors config loopback cookies attempts provider maintenance rotation sessions threads flask "
    "blinker click requests requests_oauthlib werkzeug",
    "extension": "errors application_engine providers rotation web wiring flask",
    "wiring": "errors application_engine config clock maintenance provider rotation storage sessions "
    "providers threads web flask",
    "__init__": "errors extension rotation web",
}
"""What each part may import: other parts of the package, and distributions."""

EXCEPTIONS = {
    ("sessions/store.py", "storage"),  # a session and its grants are read in one statement, and ended in one
    ("testing/login.py", "web"),  # signs a test client in, as a view would
    ("testing/rotations.py", "web"),  # finds the application's rotation threads
    ("web/cli.py", "testing"),  # the command fake-provider
}

STDLIB = sys.stdlib_module_names


@dataclass(frozen=True)
class Import:
    """One import: the module's full name, and whether it is done when the importing module is."""

    module: tuple[str, ...]
    at_once: bool

    @property
    def part(self) -> str:
        """The part of the package, or the distribution."""
        if self.module[0] != NAME:
            return self.module[0]
        return self.module[1] if len(self.module) > 1 else "__init__"


def modules(folder: Path = PACKAGE) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imports_of(path: Path, folder: Path = PACKAGE) -> Iterator[Import]:
    """Yield the imports of a module of the package that lies in ``folder``."""
    tree = ast.parse(path.read_text())
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    late = {id(node) for function in functions for node in ast.walk(function)}
    package = (NAME, *path.relative_to(folder).parent.parts)
    for node in ast.walk(tree):
        at_once = id(node) not in late
        if isinstance(node, ast.Import):
            yield from (Import(tuple(alias.name.split(".")), at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            # A name may be a module of its own: ``from . import endpoints``.
            yield from (Import(_module(folder, (*module, alias.name)), at_once) for alias in node.names)


def _module(folder: Path, name: tuple[str, ...]) -> tuple[str, ...]:
    """Return the module that ``name`` is, or else the one that it is a name in."""
    place = folder.joinpath(*name[1:])
    is_module = name[0] == NAME and (place.is_dir() or place.with_suffix(".py").exists())
    return name if is_module else name[:-1]


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def against_the_arrows() -> Iterator[tuple[str, str]]:
    """Yield each module that imports what its part may not, with the part that it imports."""
    for path in modules():
        part = part_of(path)
        for each in imports_of(path):
            if each.part not in {part, *STDLIB, *ALLOWED[part].split()}:
                yield str(path.relative_to(PACKAGE)), each.part


def test_every_part_is_known() -> None:
    """A new part says here what it may import; one that is gone, is gone from here."""
    assert {part_of(path) for path in modules()} == set(ALLOWED)


def test_a_module_imports_only_what_its_part_may() -> None:
    """No module reaches across the arrows of the design, and no exception outlives its reason."""
    assert set(against_the_arrows()) == EXCEPTIONS


def test_the_imports_are_seen() -> None:
    """The control of the test above: late imports and imports for types are among what it judges."""
    seen = {part: {each.part for path in modules() if part_of(path) == part for each in imports_of(path)}
            for part in ALLOWED}  # fmt: skip
    assert "sqlalchemy" in seen["storage"]
    assert {"flask", "rotation", "config"} <= seen["web"], "State names Settings as a type"
    assert "wiring" in seen["extension"], "init_app imports it"
    assert seen["rotation"] - STDLIB <= {"rotation", "errors", "forks"}


def graph(folder: Path) -> dict[str, set[str]]:
    """Return each module of ``folder`` with those of the package that it imports at once, types included."""
    return {
        _name(path, folder): {".".join(each.module) for each in imports_of(path, folder)
                              if each.at_once and each.module[0] == NAME} - {_name(path, folder)}
        for path in modules(folder)
    }  # fmt: skip


def _name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join((NAME, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def cycle_in(folder: Path) -> list[str]:
    """Return the modules of one import cycle, or an empty list."""
    try:
        TopologicalSorter(graph(folder)).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_modules_import_each_other_in_a_cycle() -> None:
    """Each module can be read after those that it imports, the types that it names included."""
    assert cycle_in(PACKAGE) == []


@pytest.mark.parametrize(
    "back",
    ["from .a import A", "from . import a", "if TYPE_CHECKING:\n    from .a import A"],
    ids=["name", "module", "type"],
)
def test_a_cycle_is_found(back: str, tmp_path: Path) -> None:
    """The control of the test above, for each way to import; a late import makes no cycle."""
    (tmp_path / "a.py").write_text("from .b import B\n")
    (tmp_path / "b.py").write_text(f"{back}\n")
    assert set(cycle_in(tmp_path)) == {f"{NAME}.a", f"{NAME}.b"}
    (tmp_path / "b.py").write_text("def late():\n    from .a import A\n")
    assert cycle_in(tmp_path) == []


def test_the_names_of_an_application_bring_no_driver_and_no_http_client() -> None:
    """``import flask_tokenrotate`` is quick: the parts are imported by `init_app`."""
    script = (
        "import sys, flask_tokenrotate; "
        "print([name for name in ('flask', 'sqlalchemy', 'requests', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['flask']"


def test_the_pytest_plugin_imports_pytest_and_the_test_kit() -> None:
    """It is no part of the package, and knows nothing of it but ``flask_tokenrotate.testing``."""
    assert {each.part for each in imports_of(PLUGIN, PLUGIN.parent)} - STDLIB == {"pytest", "testing"}
