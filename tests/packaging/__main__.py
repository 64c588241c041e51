"""``python -m tests.packaging dist``: whether the wheel and the sdist contain what they should."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "flask_tokenrotate"
PLUGIN = "pytest_flask_tokenrotate.py"


def wanted() -> set[str]:
    """Return every file of the package and the pytest plugin, as they have to be in an archive."""
    return {
        PLUGIN,
        *(
            str(path.relative_to(ROOT))
            for path in PACKAGE.rglob("*")
            if path.suffix in (".py", ".html", ".typed") and "__pycache__" not in path.parts
        ),
    }


def check(names: set[str], archive: Path, *, others: tuple[str, ...]) -> list[str]:
    """Return what is missing from an archive, and what has no place in it."""
    strangers = {name for name in names if not name.startswith(("flask_tokenrotate/", PLUGIN, *others))}
    return [
        *(f"{archive.name}: {name} is missing" for name in sorted(wanted() - names)),
        *(f"{archive.name}: {name} has no place in it" for name in sorted(strangers)),
    ]


def main(folder: Path) -> int:
    """Check the one wheel and the one sdist in ``folder``; return the exit code."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        wrong = check(set(archive.namelist()), wheel, others=("flask_tokenrotate-",))
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()} - {""}
    others = ("Flask_TokenRotate.egg-info", "LICENSE", "PKG-INFO", "README.md", "CHANGELOG.md",
              "SECURITY.md", "pyproject.toml", "setup.cfg", "MANIFEST.in")  # fmt: skip
    wrong += check(names - {"flask_tokenrotate"}, sdist, others=others)
    print("\n".join(wrong) or f"{wheel.name} and {sdist.name} contain what they should")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
