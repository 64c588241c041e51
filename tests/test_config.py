"""Settings: read once, checked at once."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_tokenrotate.config import Settings
from flask_tokenrotate.errors import ConfigurationError


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


def test_a_key_never_appears_in_an_error_or_a_repr() -> None:
    """Encryption keys are not shown, neither by a failure nor by printing the settings."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_config({"TOKENROTATE_ENCRYPTION_KEYS": {"canary-key": 1}})
    settings = Settings.from_config({"TOKENROTATE_ENCRYPTION_KEYS": "canary-key, other"})
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


def test_the_readme_lists_every_key_with_its_default() -> None:
    """The table of the README and the settings say the same."""
    rows = {}
    for line in Path(__file__).parent.parent.joinpath("README.md").read_text().splitlines():
        if line.startswith("| `TOKENROTATE_"):
            _, key, default, _, _ = (cell.strip(" `") for cell in line.split("|"))
            rows[key] = default
    assert set(rows) == {f"TOKENROTATE_{each.name.upper()}" for each in fields(Settings)}
    for each in fields(Settings):
        if each.name.endswith(("_seconds", "_entries")):
            assert float(rows[f"TOKENROTATE_{each.name.upper()}"]) == each.default
