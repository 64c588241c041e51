"""Settings: every ``TOKENROTATE_*`` key with its default, unit and check, read once by `init_app`.

A key may be set in ``app.config`` or in the environment as ``FLASK_TOKENROTATE_…`` (values are JSON
where they can be, ``__`` goes into a mapping: ``FLASK_TOKENROTATE_PROVIDERS__spotify__CLIENT_ID``).
What ``app.config`` says wins; the environment fills in what it leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Config

from .errors import ConfigurationError
from .suggestions import did_you_mean

PREFIX = "TOKENROTATE_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The effective settings of one application. All durations are in seconds.

    Storage
        ``database_uri``: SQLAlchemy URL; None means SQLite in the instance folder.
        ``engine_options``: keywords for ``sqlalchemy.create_engine``.
        ``encryption_keys``: the first seals, all open; empty means derived from ``SECRET_KEY``.
        ``listen``: on PostgreSQL, wake requests that wait for a rotation by LISTEN and NOTIFY (True); a
        process where requests wait has one more connection then.
        ``rescue_dir``: where token sets wait that the database did not take; None means
        ``tokenrotate-rescue`` in the instance folder.

    Rotation
        ``min_ttl_seconds``: a token is fresh if it lives at least this long (30).
        ``ahead_seconds``: how long before that a token is rotated after a response (300).
        ``connect_seconds``, ``redeem_seconds``: time to connect to the token endpoint (3), and for
        the whole call (7).
        ``claim_seconds``: how long a worker may hold the right to redeem (10).
        ``settle_seconds``: how long after that before a refresh token may be replayed (2).
        ``wait_seconds``: how long a request waits for another worker (15); keep it below the web
        server's time-out.
        ``backoff_seconds``, ``backoff_limit_seconds``: pause after a provider's failure (1), doubled
        up to the limit (60).
        ``cache_seconds``, ``cache_entries``: how long (10) and how many (10000) grants a process
        remembers; another process's sign-out is seen after at most ``cache_seconds``.

    Web
        ``providers``: profiles by name, as the keywords of ``register``.
        ``base_url``: the public origin of the application, where it cannot be seen from a request.
        ``url_prefix``: where the sign-in pages live ("/auth").
        ``attempt_seconds``: how long a sign-in may take (600).
        ``allow_cookie_sessions``: accept sessions that live in the cookie alone (False).
    """

    database_uri: str | None = None
    engine_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    listen: bool = True
    rescue_dir: str | None = None
    min_ttl_seconds: float = 30.0
    ahead_seconds: float = 300.0
    connect_seconds: float = 3.0
    redeem_seconds: float = 7.0
    claim_seconds: float = 10.0
    settle_seconds: float = 2.0
    wait_seconds: float = 15.0
    backoff_seconds: float = 1.0
    backoff_limit_seconds: float = 60.0
    cache_seconds: float = 10.0
    cache_entries: int = 10_000
    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    base_url: str | None = None
    url_prefix: str = "/auth"
    attempt_seconds: float = 600.0
    allow_cookie_sessions: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Return the settings in ``config`` and the environment.

        Raises `ConfigurationError` for an unknown key, a wrong type or a value that cannot work.
        """
        given = _fill_in(dict(_own_keys(config)), dict(_own_keys(_environment())))
        known = {PREFIX + each.name.upper(): each for each in fields(cls)}
        values = {}
        for key, value in given.items():
            if key not in known:
                raise ConfigurationError(f"Unknown setting {key!r}.{did_you_mean(key, known)}")
            values[known[key].name] = _checked(key, value, known[key].type)
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        if not self.redeem_seconds < self.claim_seconds:
            raise ConfigurationError(
                f"TOKENROTATE_CLAIM_SECONDS ({self.claim_seconds:g}) must be longer than "
                f"TOKENROTATE_REDEEM_SECONDS ({self.redeem_seconds:g}), or no holder of a claim could "
                "post inside it."
            )
        if self.connect_seconds > self.redeem_seconds:
            raise ConfigurationError(
                f"TOKENROTATE_CONNECT_SECONDS ({self.connect_seconds:g}) must not be longer than "
                f"TOKENROTATE_REDEEM_SECONDS ({self.redeem_seconds:g}), of which it is a part."
            )
        if not self.url_prefix.startswith("/") or self.url_prefix.endswith("/"):
            raise ConfigurationError(
                f"TOKENROTATE_URL_PREFIX ({self.url_prefix!r}) must start with '/' and not end with it."
            )


def _origin(base_url: str) -> str:
    """Return the origin as browsers and Werkzeug write it: lower case, without the default port."""
    try:
        parts = urlsplit(base_url.rstrip("/"))
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or parts.path or parts.query or parts.username:
        raise ConfigurationError(
            f"TOKENROTATE_BASE_URL ({base_url!r}) must be an origin such as 'https://app.example.com', "
            "without a path."
        )
    host = f"[{host}]" if ":" in host else host
    is_default = port in (None, {"http": 80, "https": 443}[parts.scheme])
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"


def _environment() -> Mapping[str, Any]:
    """Return what the environment sets, read by Flask's own rules."""
    config = Config(".")
    config.from_prefixed_env("FLASK")
    return config


def _own_keys(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in config.items() if key.startswith(PREFIX)]


def _fill_in(given: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``given`` with what only ``more`` has, mapping by mapping."""
    for key, value in more.items():
        if key not in given:
            given[key] = value
        elif isinstance(given[key], Mapping) and isinstance(value, Mapping):
            given[key] = _fill_in(dict(given[key]), value)
    return given


def _checked(key: str, value: Any, kind: object) -> Any:
    """Return ``value`` as the field's type wants it; ``kind`` is the annotation as written."""
    match kind:
        case "float":
            return _seconds(key, value)
        case "int":
            return int(_number(key, value))
        case "bool":
            _expect(key, value, isinstance(value, bool), "True or False")
        case "tuple[str, ...]":
            return _words(key, value)
        case "str | None":
            _expect(key, value, value is None or isinstance(value, str), "a string")
            return _origin(value) if key == "TOKENROTATE_BASE_URL" and value else value
        case "str":
            _expect(key, value, isinstance(value, str), "a string")
        case _:
            _expect(key, value, isinstance(value, Mapping), "a mapping")
    return value


def _words(key: str, value: Any) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value
    valid = isinstance(words, list | tuple) and all(isinstance(word, str) for word in words)
    _expect(key, None, valid, "a list of strings, or strings separated by commas")
    return tuple(word.strip() for word in words if word.strip())


def _number(key: str, value: Any) -> float:
    valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    _expect(key, value, valid and value >= 0, "a number that is not negative")
    return float(value)


def _seconds(key: str, value: Any) -> float:
    seconds = _number(key, value.total_seconds() if isinstance(value, timedelta) else value)
    may_be_zero = key in (
        "TOKENROTATE_MIN_TTL_SECONDS",
        "TOKENROTATE_AHEAD_SECONDS",
        "TOKENROTATE_CACHE_SECONDS",
        "TOKENROTATE_SETTLE_SECONDS",
    )
    _expect(key, value, may_be_zero or seconds > 0, "a number of seconds above 0")
    return seconds


def _expect(key: str, value: Any, valid: bool, wanted: str) -> None:
    if not valid:
        shown = f" (is {value!r})" if isinstance(value, bool | int | float) else ""
        raise ConfigurationError(f"{key}{shown} must be {wanted}.")
