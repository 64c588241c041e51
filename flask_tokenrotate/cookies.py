"""The flags of the cookies that this extension sets: the session's and a sign-in attempt's.

The rule is here once. Where the two cookies differ, a browser keeps one of them and drops the other, and a
sign-in cannot be completed.
"""

from __future__ import annotations

from flask import Flask, Request

from .loopback import is_on_loopback

HOST_PREFIX = "__Host-"
"""Browsers accept such a cookie only over TLS and from the host itself (RFC 6265bis section 4.1.3.2)."""


def is_secure(app: Flask, request: Request | None) -> bool:
    """Return whether a cookie has the ``Secure`` flag. Without a request: as for a public host.

    It has, except for plain http in debug mode and on this machine, where a browser would drop it.
    ``SESSION_COOKIE_SECURE`` sets the flag everywhere.
    """
    if app.config["SESSION_COOKIE_SECURE"] or (request is not None and request.is_secure):
        return True
    return not (app.debug or (request is not None and is_on_loopback(request.host)))


def host_bound(name: str, request: Request | None) -> str:
    """Return the cookie's name with the ``__Host-`` prefix where the request came over TLS.

    The prefix keeps other hosts of the domain, and plain http, from planting the cookie. The cookie must
    have ``Path=/`` and no ``Domain``.
    """
    return HOST_PREFIX + name if request is not None and request.is_secure else name
