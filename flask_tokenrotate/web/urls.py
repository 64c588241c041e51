"""The URLs of a sign-in: where it begins, the redirect_uri, and `next`."""

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


def safe_next(url: str | None) -> str:
    """Return ``url`` if it is a relative URL of the same origin, else ``"/"``.

    Only visible ASCII without backslashes is accepted. Browsers treat ``//host``, ``/\\host`` and URLs with
    control characters or backslashes as other origins.
    """
    if not url or len(url) > _LONGEST_NEXT or not _SAFE_NEXT.match(url):
        return "/"
    parts = urlsplit(url)
    return url if not parts.scheme and not parts.netloc else "/"


def current_url() -> str:
    """Return the current request's URL, relative, for use as `next`."""
    query = request.query_string.decode("ascii", "ignore")
    # Werkzeug decodes the path. Encode it again: a ``%3F`` in the path must not become a ``?``.
    path = quote(request.script_root + request.path, safe="/:@!$&'()*+,;=~")
    return safe_next(f"{path}?{query}" if query else path)


def login_url(provider: str, *, scopes: frozenset[str] = frozenset(), next_url: str | None = None) -> str:
    """Return the relative URL that begins a sign-in; ``next_url`` defaults to the current URL."""
    query = {"next": next_url if next_url is not None else current_url()}
    if scopes:
        query["scope"] = " ".join(sorted(scopes))
    return url_for("tokenrotate.login", provider=provider, _external=False, **query)


def callback_path(provider: str) -> str:
    """Return the path of the redirect_uri of ``provider``."""
    return url_for("tokenrotate.callback", provider=provider, _external=False)


def callback_url(state: State, provider: str) -> str:
    """Return the redirect_uri of ``provider``, which must be registered there."""
    base_url = state.settings.base_url
    if base_url is not None:
        return base_url + callback_path(provider)
    _warn_about_missing_proxy_fix(state)
    _warn_about_untrusted_hosts(state)
    return url_for("tokenrotate.callback", provider=provider, _external=True)


def _warn_about_missing_proxy_fix(state: State) -> None:
    """Log once how to fix the scheme of a redirect_uri behind a proxy."""
    forwarded = request.headers.get("X-Forwarded-Proto")
    if forwarded is None or "werkzeug.proxy_fix.orig" in request.environ or state.warned.of_proxy:
        return
    state.warned.of_proxy = True
    logger.warning(
        "Requests have X-Forwarded-Proto but nothing reads it, so the redirect_uri begins with %s://. "
        "If a proxy that you run sets it, add: "
        "app.wsgi_app = werkzeug.middleware.proxy_fix.ProxyFix(app.wsgi_app, x_proto=1, x_host=1) "
        "or set TOKENROTATE_BASE_URL to the public origin.",
        request.scheme,
    )


def _warn_about_untrusted_hosts(state: State) -> None:
    """Log once that any Host header is used for the redirect_uri."""
    trusted = current_app.config["TRUSTED_HOSTS"] is not None
    if trusted or current_app.debug or is_on_loopback(request.host) or state.warned.of_hosts:
        return
    state.warned.of_hosts = True
    logger.warning(
        "The redirect_uri is built from the Host header, which any client can choose. Set "
        "TOKENROTATE_BASE_URL to the public origin, or list the application's hosts in TRUSTED_HOSTS."
    )
