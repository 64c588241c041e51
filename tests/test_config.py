"""Settings: read once, checked at once."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from dataclasses import Field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_tokenrotate.config import Settings
from flask_tokenrotate.errors import ConfigurationError
from flask_tokenrotate.setting_kinds import Described

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "flask_tokenrotate"
README = ROOT / "README.md"


def test_the_defaults_are_valid() -> None:
    """An empty configuration is one that works."""
    assert Settings.from_config({}) == Settings()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("TOKENROTATE_MIN_TTL", 3, "TOKENROTATE_MIN_TTL_SECONDS"),
        ("TOKENROTATE_WAIT_SECONDS", "soon", "a number"),
        ("TOKENROTATE_WAIT_SECONDS", True, "a number"),
        ("TOKENROTATE_WAIT_SECONDS", 0, "above 0"),
        ("TOKENROTATE_WAIT_SECONDS", -1, "not negative"),
        ("TOKENROTATE_WAIT_SECONDS", float("nan"), "a number"),
        ("TOKENROTATE_CLAIM_SECONDS", 5, "TOKENROTATE_REDEEM_SECONDS"),
        ("TOKENROTATE_CONNECT_SECONDS", 8, "TOKENROTATE_REDEEM_SECONDS"),
        ("TOKENROTATE_CACHE_ENTRIES", 2.5, "a whole number"),
        ("TOKENROTATE_ROTATION_THREADS", -1, "not negative"),
        ("TOKENROTATE_URL_PREFIX", "auth", "start with '/'"),
        ("TOKENROTATE_URL_PREFIX", "/auth/", "not end with it"),
        ("TOKENROTATE_BASE_URL", "app.example.com", "an origin"),
        ("TOKENROTATE_BASE_URL", "https://app.example.com/x", "without a path"),
        ("TOKENROTATE_BASE_URL", "https://[::1", "an origin"),
        ("TOKENROTATE_PROVIDERS", ["spotify"], "a mapping"),
        ("TOKENROTATE_ALLOW_COOKIE_SESSIONS", "yes", "True or False"),
        ("TOKENROTATE_DATABASE_URI", 5, "a string"),
    ],
)
def test_what_cannot_work_is_refused(key: str, value: Any, said: str) -> None:
    """The error names the key and what it wants."""
    with pytest.raises(ConfigurationError, match=key) as caught:
        Settings.from_config({key: value})
    assert said in str(caught.value)


def test_a_secret_never_appears_in_an_error_or_a_repr() -> None:
    """Keys and the database's password are not shown, neither by a failure nor by printing the settings."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_config({"TOKENROTATE_ENCRYPTION_KEYS": {"canary-key": 1}})
    settings = Settings.from_config(
        {
            "TOKENROTATE_ENCRYPTION_KEYS": "canary-key, other",
            "TOKENROTATE_DATABASE_URI": "postgresql://app:canary@db/app",
        }
    )
    assert settings.encryption_keys == ("canary-key", "other")
    assert "canary" not in f"{caught.value}{settings!r}"


def test_durations_may_be_timedeltas() -> None:
    """The public edge takes a timedelta; inside there are seconds."""
    assert Settings.from_config({"TOKENROTATE_MIN_TTL_SECONDS": timedelta(minutes=2)}).min_ttl_seconds == 120


def test_the_environment_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment sets what the configuration leaves out, mapping by mapping."""
    monkeypatch.setenv("FLASK_TOKENROTATE_WAIT_SECONDS", "9")
    monkeypatch.setenv("FLASK_TOKENROTATE_CACHE_SECONDS", "1")
    monkeypatch.setenv("FLASK_TOKENROTATE_PROVIDERS__a__CLIENT_ID", "from-env")
    settings = Settings.from_config(
        {"TOKENROTATE_CACHE_SECONDS": 2, "TOKENROTATE_PROVIDERS": {"a": {"scopes": ["x"]}}}
    )
    assert (settings.wait_seconds, settings.cache_seconds) == (9, 2)
    assert settings.providers == {"a": {"scopes": ["x"], "CLIENT_ID": "from-env"}}


@given(
    st.sampled_from([f"TOKENROTATE_{each.name.upper()}" for each in fields(Settings)]),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()),
              st.dictionaries(st.text(), st.text())),
)  # fmt: skip
def test_no_value_brings_another_error(key: str, value: Any) -> None:
    """Whatever stands in a configuration, the result is settings or `ConfigurationError`."""
    with contextlib.suppress(ConfigurationError):
        assert isinstance(Settings.from_config({key: value}), Settings)


def test_the_readme_shows_the_settings_as_they_are() -> None:
    """Each row of the README's table is the key, the default and the description of one setting."""
    rows = [line for line in README.read_text().splitlines() if line.startswith("| `TOKENROTATE_")]
    expected = [
        f"| `TOKENROTATE_{each.name.upper()}` | {setting.default} | {setting.meaning} |"
        for each in fields(Settings)
        for setting in [each.metadata["setting"]]
    ]
    assert rows == expected, "The README's table should be:\n" + "\n".join(expected)


def test_every_setting_is_read_somewhere() -> None:
    """A setting that is connected to nothing would be accepted and ignored."""
    unread = {each.name for each in fields(Settings)} - settings_read(PACKAGE)
    assert unread == set()


def test_a_setting_that_nobody_reads_is_seen(tmp_path: Path) -> None:
    """The control of the test above: what counts is reading the field of a settings object."""
    (tmp_path / "one.py").write_text(
        "settings.wait_seconds\nstate.settings.listen\nself._settings.base_url\n"
        "other.cache_seconds\nsettings.claim_seconds = 3\n'settings.ahead_seconds'\n"
    )
    assert settings_read(tmp_path) == {"wait_seconds", "listen", "base_url"}


def settings_read(folder: Path) -> set[str]:
    """Return the attributes of objects called ``settings`` that the modules in ``folder`` read."""
    return {
        node.attr
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and ast.unparse(node.value).split(".")[-1].lstrip("_") == "settings"
    }


def test_a_default_is_written_in_settings_only() -> None:
    """No field and no parameter of another module has a number as its default for what a setting decides."""
    assert set(second_defaults(PACKAGE)) == set()


def test_a_second_default_is_seen(tmp_path: Path) -> None:
    """The control of the test above: fields, parameters and keywords are looked at."""
    (tmp_path / "one.py").write_text(
        "class A:\n    wait: float = 15.0\n    other: float = 15.0\n    claim: float\n"
        "def f(redeem_seconds=7, x=3, *, ahead=-1, settle=None): ...\n"
    )
    assert set(second_defaults(tmp_path)) == {"one.py: wait", "one.py: redeem_seconds", "one.py: ahead"}


def second_defaults(folder: Path) -> Iterator[str]:
    """Yield the fields and parameters that have the name of a setting, and a number as their default."""
    names = {each.name for each in fields(Settings)}
    names |= {name.removesuffix("_seconds") for name in names}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for name, default in defaults_in(node):
                if name in names and re.fullmatch(r"-?[\d._]+", ast.unparse(default)):
                    yield f"{path.relative_to(folder)}: {name}"


def defaults_in(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield name and default of what ``node`` declares: a field, or a function's parameters."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value
    elif isinstance(node, ast.arguments):
        positional = [*node.posonlyargs, *node.args]
        pairs = [*zip(reversed(positional), reversed(node.defaults), strict=False)]
        pairs += [*zip(node.kwonlyargs, node.kw_defaults, strict=True)]
        yield from ((argument.arg, default) for argument, default in pairs if default is not None)


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_described_in_one_line(field: Field[object]) -> None:
    """The description fits into a cell of a table."""
    setting: Described = field.metadata["setting"]
    assert re.fullmatch(r"[^|\n]+[^|\n.]", setting.meaning)
    assert "|" not in setting.default
