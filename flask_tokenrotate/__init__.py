"""Flask-TokenRotate: fresh OAuth 2 tokens, each rotating refresh token redeemed once.

The names below are loaded at first use: the pytest plugin of this package is imported by every test
run on a machine, and must not bring Flask and SQLAlchemy into runs that do not need them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ConfigurationError as ConfigurationError
    from .errors import ProviderUnavailable as ProviderUnavailable
    from .errors import SignInRequired as SignInRequired
    from .errors import TokenRotateError as TokenRotateError
    from .extension import TokenRotate as TokenRotate
    from .web.current_token import current_token as current_token
    from .web.require_fresh_token import require_fresh_token as require_fresh_token
    from .web.signals import grant_ended as grant_ended
    from .web.signals import rotation_failed as rotation_failed
    from .web.signals import scopes_changed as scopes_changed
    from .web.signals import signed_in as signed_in
    from .web.signals import token_rotated as token_rotated

_HOMES = {
    "ConfigurationError": "errors",
    "ProviderUnavailable": "errors",
    "SignInRequired": "errors",
    "TokenRotate": "extension",
    "TokenRotateError": "errors",
    "current_token": "web.current_token",
    "grant_ended": "web.signals",
    "require_fresh_token": "web.require_fresh_token",
    "rotation_failed": "web.signals",
    "scopes_changed": "web.signals",
    "signed_in": "web.signals",
    "token_rotated": "web.signals",
}

__all__ = [
    "ConfigurationError",
    "ProviderUnavailable",
    "SignInRequired",
    "TokenRotate",
    "TokenRotateError",
    "current_token",
    "grant_ended",
    "require_fresh_token",
    "rotation_failed",
    "scopes_changed",
    "signed_in",
    "token_rotated",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
