"""Sealed JSON as it is read back: what has another shape than this version writes is `Malformed`.

A value that can be decrypted was encrypted with one of the keys, but perhaps by another version or another
program: its content may be anything.
"""

from __future__ import annotations

import json
import math
from typing import Any


class Malformed(Exception):
    """The decrypted content does not have the shape that this version writes. Shows none of the content."""


def facts_in(plain: bytes, *keys: str) -> dict[str, Any]:
    """Return the JSON object in ``plain``, which must have ``keys``."""
    try:
        facts = json.loads(plain)
    except (ValueError, RecursionError):
        raise Malformed from None
    return with_keys(facts, *keys)


def with_keys(value: Any, *keys: str) -> dict[str, Any]:
    """Return ``value`` if it is an object that has ``keys``; a later version may write more."""
    if not isinstance(value, dict) or not set(keys) <= value.keys():
        raise Malformed
    return value


def several(value: Any, count: int) -> list[Any]:
    """Return ``value`` if it is a list of ``count`` members."""
    if not isinstance(value, list) or len(value) != count:
        raise Malformed
    return value


def text(value: Any) -> str:
    """Return ``value`` if it is a string."""
    if not isinstance(value, str):
        raise Malformed
    return value


def text_or_none(value: Any) -> str | None:
    """Return ``value`` if it is a string or None."""
    return None if value is None else text(value)


def texts_or_none(value: Any) -> frozenset[str] | None:
    """Return the members of ``value`` if it is a list of strings, or None."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise Malformed
    return frozenset(text(member) for member in value)


def whole(value: Any) -> int:
    """Return ``value`` if it is an integer that fits into a database column."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Malformed
    return value


def number_or_none(value: Any) -> float | None:
    """Return ``value`` if it is a finite number or None."""
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    except OverflowError:
        pass
    raise Malformed
