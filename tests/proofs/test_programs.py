"""The programs by their one command, and the pages that name it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.servers import Unavailable
from tests.servers.processes import ROOT

from . import __main__ as command
from . import programs
from .programs import PROGRAMS, Program

NAMES = [program.name for program in PROGRAMS]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", ".ci/run")] + sorted(ROOT.glob("docs/*.md"))
COMMAND = re.compile(r"python -m (tests\.proofs[^\n`#|]*)")
PAGE = (ROOT / "docs" / "proofs.md").read_text()


def example(name: str = "example", code: str = "example") -> Program:
    """Return a program that is none of ours."""
    takes = {"short_takes": "1 s", "full_takes": "2 s"}
    return Program(name=name, shows="nothing", module=f"{code}_code", full={"count": 9}, **takes)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module of `example`, which ends with the exit code ``--count``."""
    monkeypatch.setattr(programs.importlib, "import_module", _modules(tmp_path))
    monkeypatch.setattr(command, "PROGRAMS", [example()])
    return tmp_path


def _modules(folder: Path) -> object:
    class Code:
        @staticmethod
        def add_options(parser: object) -> None:
            parser.add_argument("--count", type=int, default=0)  # type: ignore[attr-defined]

        @staticmethod
        def run(options: object) -> int:
            (folder / "ran").touch()
            if options.count == 5:  # type: ignore[attr-defined]
                raise Unavailable("no server here")
            return options.count  # type: ignore[attr-defined, no-any-return]

    return lambda name: Code


@pytest.mark.parametrize(
    ("options", "count"),
    [([], 0), (["--full"], 9), (["--count", "3"], 3), (["--full", "--count", "3"], 3)],
    ids=str,
)
def test_the_full_form_has_other_defaults(code: Path, options: list[str], count: int) -> None:
    """An option that is given counts in both forms."""
    assert command.main(["example", *options]) == count
    assert (code / "ran").exists()


def test_a_server_that_is_missing_is_named(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a line and an exit code, not a traceback."""
    assert command.main(["example", "--count", "5"]) == 1
    assert capsys.readouterr().err == "example: no server here\n"


def test_without_a_name_the_programs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has one line with what it shows and how long it takes."""
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for program in PROGRAMS:
        (line,) = (line for line in lines if line.startswith(f"{program.name} "))
        assert program.short_takes in line
        assert program.full_takes in line
        assert line.endswith(program.shows)


def test_an_unknown_name_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """The list is shown, with the exit code of a wrong command line."""
    assert command.main(["nothing"]) == 2
    assert "no program 'nothing'" in capsys.readouterr().err


def test_all_runs_each_and_fails_if_one_fails(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each runs in a process of its own, also after one that fails, and has a line in the summary."""
    monkeypatch.setattr(command, "__package__", "tests.proofs")
    assert command.run_all([example("nothing"), example("capacity")], ["--full"]) == 1
    *_, first, second = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"nothing +failed \(exit code 2\), \d+ s", first)
    assert re.fullmatch(r"capacity +passed, \d+ s", second)
    assert command.run_all([example("capacity")], []) == 0


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_page_has_each_program(program: Program) -> None:
    """A section of its own with both commands, and how long each takes."""
    section = PAGE.partition(f"\n## {program.name}\n")[2].partition("\n## ")[0]
    assert f"| `python -m tests.proofs {program.name}` | {program.short_takes} |" in section
    assert f"| `python -m tests.proofs {program.name} --full` | {program.full_takes} |" in section
    assert "It fails " in section


def test_the_page_has_no_other_program() -> None:
    """A program that is gone is not on the page, and the order is the list's."""
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == NAMES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_on_a_page_parses(page: Path) -> None:
    """Documents and the check of a change name programs and options that exist."""
    for text in COMMAND.findall(page.read_text()):
        module, *arguments = shlex.split(text)
        assert module == "tests.proofs", text
        if not arguments or arguments[0] == "NAME":
            continue
        if arguments[0] == "all":
            assert arguments[1:] in ([], ["--full"]), text
            continue
        (program,) = (program for program in PROGRAMS if program.name == arguments[0])
        program.parse(arguments[1:])


def test_every_page_is_looked_at() -> None:
    """The control of the test above: it finds the commands."""
    found = {page.name: len(COMMAND.findall(page.read_text())) for page in PAGES}
    for name in ("README.md", "SECURITY.md", "run", "faults.md", "operations.md", "performance.md"):
        assert found[name] > 0, name
