"""Whether a request can be sent a second time, after a resource server has refused its token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110 section 9.2.2)."""


def how_to_repeat(method: str, data: object, others: Mapping[str, Any]) -> Callable[[], object] | None:
    """Return what must be called before the request is sent again; None if it must not be.

    To be called before it is sent the first time. ``data`` is the body as `requests.request` takes it,
    ``others`` are the other keywords. Only what is known to be repeatable is repeated: an iterator, a pipe
    or an upload (``files``) is empty the second time.
    """
    if method.upper() not in IDEMPOTENT or others.get("files"):
        return None
    if not _is_plain(others.get("params")):
        return None
    if hasattr(data, "read"):
        return _rewind(data)
    return (lambda: None) if _is_plain(data) else None


def _is_plain(value: object) -> bool:
    """Return whether reading ``value`` leaves it as it was."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bytes | bytearray | int | float)


def _rewind(file: Any) -> Callable[[], object] | None:
    """Return what sets the file back to where it is now; None if that is not possible."""
    try:
        position = file.tell()
        file.seek(position)
    except (AttributeError, OSError, ValueError):
        return None
    return lambda: file.seek(position)
