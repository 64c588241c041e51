"""Binds a sign-in attempt to the browser that began it: a cookie, and a mark of the host in the state."""

from __future__ import annotations

import hashlib
import re
import secrets

from flask import current_app, request
from werkzeug.wrappers import Response

from .. import cookies
from ..rotation.tokens import Secret

_COOKIE = "tokenrotate"
_BROWSER_ID = re.compile(r"[A-Za-z0-9_-]{43}\Z")


def new_state() -> Secret:
    """Return a new ``state`` (RFC 6749 section 4.1.1). Its end marks the host of the current request."""
    return Secret(f"{secrets.token_urlsafe(32)}.{_host_mark()}")


def is_from_this_host(oauth_state: Secret) -> bool:
    """Return whether `new_state` made the state at the host of the current request."""
    return oauth_state.reveal().endswith(f".{_host_mark()}")


def new_browser_id() -> Secret:
    """Return a new value for an attempt's cookie."""
    return Secret(secrets.token_urlsafe(32))


def browser_id(oauth_state: Secret) -> Secret | None:
    """Return the value of the attempt's cookie; None if there is none, or if it cannot be one of ours."""
    cookie = request.cookies.get(_cookie_name(oauth_state), "")
    return Secret(cookie) if _BROWSER_ID.match(cookie) else None


def set_cookie(response: Response, oauth_state: Secret, browser: Secret, *, seconds: float) -> None:
    """Set the attempt's cookie on ``response``, for ``seconds``."""
    response.set_cookie(
        _cookie_name(oauth_state),
        browser.reveal(),
        max_age=int(seconds),
        path="/",
        httponly=True,
        secure=_is_secure(),
        samesite="Lax",
    )


def delete_cookie(response: Response, oauth_state: Secret) -> None:
    """Delete the attempt's cookie."""
    response.delete_cookie(_cookie_name(oauth_state), secure=_is_secure())


def _is_secure() -> bool:
    return cookies.is_secure(current_app, request)


def _cookie_name(oauth_state: Secret) -> str:
    # Each attempt has its own cookie, so that two tabs can sign in at the same time.
    return cookies.host_bound(f"{_COOKIE}-{oauth_state.fingerprint()}", request)


def _host_mark() -> str:
    return hashlib.sha256(request.host.encode()).hexdigest()[:8]
