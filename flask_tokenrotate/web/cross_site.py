"""Protects the sign-out from pages of other sites (CSRF)."""

from __future__ import annotations

from flask import request

from .state import State


def is_cross_site(state: State) -> bool:
    """Return whether a page of another origin sent the current request.

    ``Sec-Fetch-Site`` decides where the browser sends it (over https, and to loopback hosts). Otherwise the
    host and port of ``Origin`` decide: the scheme may differ behind a proxy that ends TLS. A request with
    neither header is accepted. Browsers send ``Origin`` with every cross-site POST (Fetch standard, section
    3.2), so it comes from a program, which has no user's cookies.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    return origin != state.settings.base_url and origin.partition("://")[2] != request.host
