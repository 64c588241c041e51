"""The kinds of settings. Each function makes a field of `Settings` with its default, check and description.

A check takes the key and the value, and returns the value to use. It raises `ConfigurationError`, whose
message shows numbers only, because any other value may be a secret.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

from .errors import ConfigurationError

Check = Callable[[str, object], object]


@dataclass(frozen=True, slots=True)
class Described:
    """The metadata of a field, under ``"setting"``.

    ``default`` is the default as the documentation shows it; ``meaning`` is one line of Markdown.
    """

    check: Check
    default: str
    meaning: str


def seconds(default: float, meaning: str, *, may_be_zero: bool = False) -> float:
    """A duration: a number of seconds or a ``timedelta``."""

    def check(key: str, value: object) -> float:
        number = _number(key, value.total_seconds() if isinstance(value, timedelta) else value)
        if not number and not may_be_zero:
            _refuse(key, value, "a number of seconds above 0")
        return number

    return field(default=float(default), metadata=_described(check, f"{default:g}", meaning))


def count(default: int, meaning: str) -> int:
    """A whole number that is not negative."""

    def check(key: str, value: object) -> int:
        number = _number(key, value)
        if not number.is_integer():
            _refuse(key, value, "a whole number")
        return int(number)

    return field(default=default, metadata=_described(check, str(default), meaning))


def flag(default: bool, meaning: str) -> bool:
    """True or False."""

    def check(key: str, value: object) -> bool:
        return value if isinstance(value, bool) else _refuse(key, value, "True or False")

    return field(default=default, metadata=_described(check, f"`{default}`", meaning))


def optional_text(default: str, meaning: str) -> str | None:
    """A string, or None for the ``default`` that is described. Its value is not printed."""

    def check(key: str, value: object) -> str | None:
        return value if value is None or isinstance(value, str) else _refuse(key, value, "a string")

    return field(default=None, repr=False, metadata=_described(check, default, meaning))


def origin(default: str, meaning: str) -> str | None:
    """Scheme, host and port of a web site, or None for the ``default`` that is described."""

    def check(key: str, value: object) -> str | None:
        if value is not None and not isinstance(value, str):
            _refuse(key, value, "a string")
        return _origin(key, value) if value else None

    return field(default=None, metadata=_described(check, default, meaning))


def path(default: str, meaning: str) -> str:
    """The beginning of a URL's path."""

    def check(key: str, value: object) -> str:
        if not isinstance(value, str):
            _refuse(key, value, "a string")
        if not value.startswith("/") or value.endswith("/"):
            raise ConfigurationError(f"{key} ({value!r}) must start with '/' and not end with it.")
        return value

    return field(default=default, metadata=_described(check, f'`"{default}"`', meaning))


def words(default: str, meaning: str) -> tuple[str, ...]:
    """Strings: a list, or one string with commas. Empty for the ``default`` that is described."""

    def check(key: str, value: object) -> tuple[str, ...]:
        given = value.split(",") if isinstance(value, str) else value
        if not isinstance(given, list | tuple) or not all(isinstance(word, str) for word in given):
            _refuse(key, None, "a list of strings, or strings separated by commas")
        return tuple(word.strip() for word in given if word.strip())

    return field(default=(), repr=False, metadata=_described(check, default, meaning))


def mapping(meaning: str) -> Mapping[str, Any]:
    """A mapping, empty by default. Its value is not printed."""

    def check(key: str, value: object) -> Mapping[str, Any]:
        return value if isinstance(value, Mapping) else _refuse(key, value, "a mapping")

    return field(default_factory=dict, repr=False, metadata=_described(check, "`{}`", meaning))


def _described(check: Check, default: str, meaning: str) -> dict[str, Described]:
    return {"setting": Described(check, default, meaning)}


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        _refuse(key, value, "a number that is not negative")
    return float(value)


def _refuse(key: str, value: object, wanted: str) -> NoReturn:
    shown = f" (is {value!r})" if isinstance(value, bool | int | float) else ""
    raise ConfigurationError(f"{key}{shown} must be {wanted}.")


def _origin(key: str, url: str) -> str:
    """Return the origin as browsers and Werkzeug write it: lower case, without the default port."""
    try:
        parts = urlsplit(url.rstrip("/"))
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or parts.path or parts.query or parts.username:
        raise ConfigurationError(
            f"{key} ({url!r}) must be an origin such as 'https://app.example.com', without a path."
        )
    host = f"[{host}]" if ":" in host else host
    is_default = port in (None, {"http": 80, "https": 443}[parts.scheme])
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"
