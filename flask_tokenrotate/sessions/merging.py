"""What a request changed in its session, and how that is merged onto the newest row. Pure functions.

A session is a mapping of keys to values in JSON. A change is found by comparing each value as it would
be written with what was read, so that an append to a list inside the session counts like an assignment.

=====================  ==================  ==========================
This request           Another meanwhile   What the row holds then
=====================  ==================  ==========================
left the key alone     set or deleted it   what the other one did
set or deleted it      left it alone       what this one did
set or deleted it      set or deleted it   what the last writer did
cleared the session    anything            what this one set afterwards
=====================  ==================  ==========================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import NotStorableInSession

Fields = dict[str, bytes]
"""A session as it is stored: each value in JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What one request did to the session that it read."""

    written: Fields
    deleted: frozenset[str]
    cleared: bool

    def __bool__(self) -> bool:
        return bool(self.written or self.deleted or self.cleared)

    def onto(self, newest: Fields) -> Fields:
        """Return the new contents of the row, given what it holds now."""
        kept = {} if self.cleared else newest
        return {key: value for key, value in kept.items() if key not in self.deleted} | self.written


def changes_between(read: Fields, values: Mapping[str, Any], *, cleared: bool) -> Changes:
    """Return how ``values`` differ from what was ``read``. Raises `NotStorableInSession`."""
    read = {} if cleared else read
    now = {key: _encoded(key, value) for key, value in values.items()}
    return Changes(
        written={key: value for key, value in now.items() if read.get(key) != value},
        deleted=frozenset(read.keys() - now.keys()),
        cleared=cleared,
    )


def is_empty(fields: Fields) -> bool:
    """Return whether the session is not worth a row: how long it would live is no contents."""
    return not fields.keys() - {"_permanent"}


def pack(fields: Fields) -> bytes:
    """Return the session as one JSON object."""
    return msgspec.json.encode({key: msgspec.Raw(value) for key, value in fields.items()})


def unpack(data: bytes) -> Fields:
    """Return the fields of a JSON object. Raises `msgspec.DecodeError`."""
    return {
        key: bytes(value) for key, value in msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items()
    }


def values_of(fields: Fields) -> dict[str, Any]:
    """Return the values of the fields. Raises `msgspec.DecodeError`."""
    return {key: msgspec.json.decode(value) for key, value in fields.items()}


def _encoded(key: object, value: Any) -> bytes:
    try:
        if not isinstance(key, str):
            raise NotStorableInSession(key, f"the key is a {type(key).__name__}")
        key.encode()
        return msgspec.json.encode(value, enc_hook=_plain_text)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        # Not the cause: its text may show the value.
        raise NotStorableInSession(key, f"a {type(value).__name__}: {type(error).__name__}") from None


def _plain_text(value: Any) -> str:
    """Write a subclass of `str`, such as `markupsafe.Markup`, as a plain string."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError
