"""Addresses: where the browser is sent, where the provider sends it back, and what `next` may be."""

from __future__ import annotations

import logging
import re
from urllib.parse import quote, urlsplit

from flask import current_app, request, url_for

from ..loopback import is_on_loopback
from .state import State

logger = logging.getLogger("flask_tokenrotate")

_SAFE_NEXT = re.compile(r"/(?![/\\])[!-\[\]-~]*\Z")
_LONGEST_NEXT = 2000


def safe_next(address: str | None) -> str:
    """Return ``address`` if it is a same-origin relative address, else ``"/"``.

    Browsers read ``//host``, ``/\\host`` and addresses with control characters or backslashes as
    other origins, so everything but visible ASCII without a backslash is refused.
    """
    if not address or len(address) > _LONGEST_NEXT or not _SAFE_NEXT.match(address):
        return "/"
    parts = urlsplit(address)
    return address if not parts.scheme and not parts.netloc else "/"


def here() -> str:
    """Return the current request's address, as a `next` to come back to."""
    query = request.query_string.decode("ascii", "ignore")
    # Percent-encoded again, as Werkzeug has decoded it: a ``%3F`` of the path must not become a ``?``.
    path = quote(request.script_root + request.path, safe="/:@!$&'()*+,;=~")
    return safe_next(f"{path}?{query}" if query else path)


def login_url(provider: str, *, scopes: frozenset[str] = frozenset(), next_url: str | None = None) -> str:
    """Return the relative address at which signing in at ``provider`` starts."""
    query = {"next": next_url if next_url is not None else here()}
    if scopes:
        query["scope"] = " ".join(sorted(scopes))
    return url_for("tokenrotate.login", provider=provider, _external=False, **query)


def callback_path(provider: str) -> str:
    """Return the address of ``provider``'s callback within this site."""
    return url_for("tokenrotate.callback", provider=provider, _external=False)


def callback_url(state: State, provider: str) -> str:
    """Return the redirect_uri of ``provider``, as it has to be registered there."""
    base_url = state.settings.base_url
    if base_url is not None:
        return base_url + callback_path(provider)
    _warn_of_missing_proxy_fix(state)
    _warn_of_untrusted_hosts(state)
    return url_for("tokenrotate.callback", provider=provider, _external=True)


def _warn_of_missing_proxy_fix(state: State) -> None:
    """Say once how to fix a redirect_uri that a proxy in front of the application makes wrong."""
    forwarded = request.headers.get("X-Forwarded-Proto")
    if forwarded is None or "werkzeug.proxy_fix.orig" in request.environ or state.warned.of_proxy:
        return
    state.warned.of_proxy = True
    logger.warning(
        "X-Forwarded-Proto arrives but nothing reads it, so the redirect_uri is built as %s://. "
        "If a proxy that you run sets it, add: "
        "app.wsgi_app = werkzeug.middleware.proxy_fix.ProxyFix(app.wsgi_app, x_proto=1, x_host=1) "
        "or set TOKENROTATE_BASE_URL to the public origin.",
        request.scheme,
    )


def _warn_of_untrusted_hosts(state: State) -> None:
    """Say once that a visitor's Host header decides the redirect_uri, as long as nothing limits it."""
    trusted = current_app.config["TRUSTED_HOSTS"] is not None
    if trusted or current_app.debug or is_on_loopback(request.host) or state.warned.of_hosts:
        return
    state.warned.of_hosts = True
    logger.warning(
        "The redirect_uri is built from the Host header, which any client can choose. Set "
        "TOKENROTATE_BASE_URL to the public origin, or list the application's hosts in TRUSTED_HOSTS."
    )


def is_cross_site(state: State) -> bool:
    """Return whether a page of another origin sent this request.

    ``Sec-Fetch-Site`` decides where the browser sends it (over https and to loopback hosts), else
    ``Origin``, by its host and port: the scheme may differ behind a proxy that ends TLS. A request
    with neither header is let through: browsers put ``Origin`` on every cross-site POST (Fetch
    standard, section 3.2), so it comes from a program, which has no user's cookies to abuse.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    return origin != state.settings.base_url and origin.partition("://")[2] != request.host
