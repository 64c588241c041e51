"""The settings: every ``TOKENROTATE_*`` key, read once by `init_app`.

A key may be set in ``app.config``, or in the environment as ``FLASK_TOKENROTATE_…``. The environment is read
as in `Config.from_prefixed_env`: a value is parsed as JSON if possible, and ``__`` separates the keys of a
mapping (``FLASK_TOKENROTATE_PROVIDERS__spotify__CLIENT_ID``). ``app.config`` takes precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from flask import Config

from .errors import ConfigurationError
from .setting_kinds import Described, count, flag, mapping, optional_text, origin, path, seconds, words
from .suggestions import did_you_mean

PREFIX = "TOKENROTATE_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of one application. All durations are in seconds.

    A setting is one line: its default, its check (see `setting_kinds`) and its description, which is also its
    row in the README's table. `_check` compares settings with each other.
    """

    # Storage
    database_uri: str | None = optional_text(
        "SQLite in the instance folder",
        "where grants are stored; or pass `TokenRotate(engine=…)` an engine or a Flask-SQLAlchemy object",
    )
    engine_options: Mapping[str, Any] = mapping("keywords for `sqlalchemy.create_engine`")
    encryption_keys: tuple[str, ...] = words(
        "derived from `SECRET_KEY` and `SECRET_KEY_FALLBACKS`",
        "the first key encrypts, all of them decrypt; `flask tokenrotate new-key` makes one",
    )
    listen: bool = flag(
        True,
        "on PostgreSQL, notify requests that wait for a rotation (LISTEN and NOTIFY); a process in which "
        "requests wait then has one more connection",
    )
    rescue_dir: str | None = optional_text(
        "`tokenrotate-rescue` in the instance folder",
        "where new tokens that could not be saved are kept, encrypted; `flask tokenrotate rescue` saves them",
    )

    # Rotation
    min_ttl_seconds: float = seconds(
        30,
        "a token is fresh if it is valid for at least this long; never more than half of its lifetime",
        may_be_zero=True,
    )
    ahead_seconds: float = seconds(
        300,
        "how long before that a token is rotated ahead; never more than a quarter of its lifetime",
        may_be_zero=True,
    )
    connect_seconds: float = seconds(3, "time to connect to the token endpoint")
    redeem_seconds: float = seconds(
        7,
        "time to connect to the token endpoint and send; a provider that takes longer to respond counts as "
        "failing, until it does",
    )
    claim_seconds: float = seconds(
        10, "how long a claim, the right to redeem, is valid; its live holder renews it, for up to 60 seconds"
    )
    settle_seconds: float = seconds(
        2,
        "how long a refresh token is not replayed after a claim that ended in doubt; after a call that timed "
        "out, 10 at least, unless the provider has a grace period",
        may_be_zero=True,
    )
    wait_seconds: float = seconds(
        15,
        "how long a request waits for a rotation, counted from the claim; keep it below the web server's "
        "time-out",
    )
    rotation_threads: int = count(
        32, "redemptions of one provider that a process runs at once; 0: in the request that needs them"
    )
    drain_seconds: float = seconds(
        20, "how long a process waits at exit for its redemptions in progress", may_be_zero=True
    )
    backoff_seconds: float = seconds(
        1, "pause after a failure of the provider; doubled with each further failure"
    )
    backoff_limit_seconds: float = seconds(60, "the longest such pause")
    cache_seconds: float = seconds(
        10,
        "how long a process may use a token that another process signed out or expired, where the grant is "
        "not read with the session: other session back ends, a `store` of your own, `rotate.token`",
        may_be_zero=True,
    )
    cache_entries: int = count(10_000, "how many grants a process caches")

    # Web
    providers: Mapping[str, Mapping[str, Any]] = mapping("options of `register`, by the provider's name")
    base_url: str | None = origin(
        "the request's", "public origin, such as `https://app.example.com`, for the redirect_uri"
    )
    url_prefix: str = path("/auth", "prefix of the sign-in URLs")
    attempt_seconds: float = seconds(600, "how long a sign-in may take")
    allow_cookie_sessions: bool = flag(False, "accept sessions that are stored in the cookie only")

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Settings:
        """Return the settings in ``config`` and the environment.

        Raises `ConfigurationError` for an unknown key, a wrong type or a value that cannot work.
        """
        given = _fill_in(_own_keys(config), _own_keys(_environment()))
        known = {PREFIX + each.name.upper(): each for each in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key not in known:
                raise ConfigurationError(f"Unknown setting {key!r}.{did_you_mean(key, known)}")
            setting: Described = known[key].metadata["setting"]
            values[known[key].name] = setting.check(key, value)
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        """Raise `ConfigurationError` for settings that contradict each other."""
        if not self.redeem_seconds < self.claim_seconds:
            raise ConfigurationError(
                f"TOKENROTATE_CLAIM_SECONDS ({self.claim_seconds:g}) must be longer than "
                f"TOKENROTATE_REDEEM_SECONDS ({self.redeem_seconds:g}), or no "
                "claim would be long enough to post."
            )
        if self.connect_seconds > self.redeem_seconds:
            raise ConfigurationError(
                f"TOKENROTATE_CONNECT_SECONDS ({self.connect_seconds:g}) must not be longer than "
                f"TOKENROTATE_REDEEM_SECONDS ({self.redeem_seconds:g}), of which it is a part."
            )


def _environment() -> Mapping[str, object]:
    """Return the environment's settings, read by Flask."""
    config = Config(".")
    config.from_prefixed_env("FLASK")
    return config


def _own_keys(config: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in config.items() if key.startswith(PREFIX)}


def _fill_in(given: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """Return ``given``, with the keys that only ``more`` has added; mappings are merged."""
    filled = {**more, **given}
    for key, value in given.items():
        other = more.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            filled[key] = _fill_in(value, other)
    return filled
