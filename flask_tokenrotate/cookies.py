"""The flags of the extension's cookies: the session's and those of sign-in attempts.

Both must have the same flags. Otherwise a browser stores one cookie and drops the other, and the sign-in
cannot be completed.
"""

from __future__ import annotations

from flask import Flask, Request

from .loopback import is_on_loopback

HOST_PREFIX = "__Host-"
"""Browsers accept such a cookie only over TLS and from the host itself (RFC 6265bis section 4.1.3.2)."""


def is_secure(app: Flask, request: Request | None) -> bool:
    """Return whether cookies get the ``Secure`` flag; without a request, as for a public host.

    They get it except over plain http in debug mode or on a loopback host, where a browser would drop them.
    ``SESSION_COOKIE_SECURE`` sets the flag everywhere.
    """
    if app.config["SESSION_COOKIE_SECURE"] or (request is not None and request.is_secure):
        return True
    return not (app.debug or (request is not None and is_on_loopback(request.host)))


def host_bound(name: str, request: Request | None) -> str:
    """Return ``name`` with the ``__Host-`` prefix if the request came over TLS.

    With the prefix, other hosts of the domain and plain http cannot set the cookie. The cookie must have
    ``Path=/`` and no ``Domain``.
    """
    return HOST_PREFIX + name if request is not None and request.is_secure else name
