"""What type checkers see of an installed extension: the README's code passes mypy and pyright in strict mode.

The checkers are in the extra ``lint``; without them these tests are skipped.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from .test_readme import BLOCKS, ROOT

Check = list[str]

MYPY = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "../cache"]
PYRIGHT = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
CHECKERS = [
    pytest.param(
        command, id=module, marks=pytest.mark.skipif(find_spec(module) is None, reason="not installed")
    )
    for module, command in (("mypy", MYPY), ("basedpyright", PYRIGHT))
]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder outside the source tree, where only the installation can be found.

    mypy's cache lies next to it, for the other tests of this run.
    """
    (tmp_path / "pyproject.toml").write_text('[tool.basedpyright]\ntypeCheckingMode = "strict"\n')
    return tmp_path


def checked(command: list[str], source: str, folder: Path) -> tuple[int, str]:
    """Run a type checker on ``source``; return its exit code and what it says."""
    (folder / "application.py").write_text(source)
    done = subprocess.run(
        [*command, "application.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize("checker", CHECKERS)
def test_the_code_of_the_readme_passes_in_strict_mode(checker: Check, elsewhere: Path) -> None:
    """The blocks in their order, as one module of an application."""
    source = "\n\n".join([BLOCKS[0], "app = create_app()", *BLOCKS[1:]])
    assert checked(checker, source, elsewhere)[0] == 0, checked(checker, source, elsewhere)[1]


@pytest.mark.long
@pytest.mark.parametrize("checker", CHECKERS)
def test_the_public_names_pass_in_strict_mode(checker: Check, elsewhere: Path) -> None:
    """`typing_api` uses each name as an application would."""
    source = Path(__file__).with_name("typing_api.py").read_text()
    assert checked(checker, source, elsewhere)[0] == 0, checked(checker, source, elsewhere)[1]


@pytest.mark.long
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_wrong_argument_is_found(checker: Check, elsewhere: Path) -> None:
    """The control of the tests above: the types are found, and are not all Any."""
    for wrong in ("TokenRotate().token(5)", 'TokenRotate(engine="sqlite://")'):
        code, said = checked(checker, f"from flask_tokenrotate import TokenRotate\n\n{wrong}\n", elsewhere)
        assert code == 1, wrong
        assert "rgument" in said, said


def test_an_editable_installation_is_a_plain_path() -> None:
    """Type checkers read a path from a ``.pth`` file, and cannot run an import hook."""
    installed = [
        each for each in distributions(name="Flask-TokenRotate") if each.read_text("direct_url.json")
    ]
    editable = [each for each in installed if '"editable": true' in str(each.read_text("direct_url.json"))]
    if not editable:
        pytest.skip("the extension is not installed in editable mode")
    lines = [
        line
        for file in editable[0].files or ()
        if file.suffix == ".pth"
        for line in file.read_text().splitlines()
    ]
    assert [Path(line) for line in lines] == [ROOT]
