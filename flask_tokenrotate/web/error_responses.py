"""The responses for our errors: a redirect, a page, or ``application/problem+json``.

A navigation (an HTML GET) is redirected to the sign-in or gets a page. Everything else, such as a script's
``fetch``, gets a problem document (RFC 9457), because it cannot follow a redirect to another origin.
"""

from __future__ import annotations

import json
import logging
import math

from flask import Flask, Response, current_app, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ..errors import SignInFailed, SignInRequired, TokenRotateError, TryLater
from .urls import login_url

logger = logging.getLogger("flask_tokenrotate")

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"

TITLES = {
    401: "Sign-in required",
    400: "Sign-in failed",
    403: "Not allowed",
    500: "Server misconfigured",
    502: "Provider misconfigured",
    503: "Try again later",
}


def is_navigation() -> bool:
    """Return whether a browser requests a page, so that it can follow a redirect or show a page."""
    is_page = request.method in ("GET", "HEAD")
    return is_page and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate" and wants_html()


def wants_html() -> bool:
    """Return whether the client accepts HTML."""
    return any(kind in ("text/html", "application/xhtml+xml") for kind, _ in request.accept_mimetypes)


def error_response(error: TokenRotateError) -> BaseResponse:
    """Return the response for ``error``, which is logged if it is `for_operators`."""
    if isinstance(error, SignInRequired) and error.provider is not None:
        error.login_url = error.login_url or login_url(error.provider, scopes=error.scopes)
        if is_navigation():
            return private(redirect(error.login_url))
    if error.for_operators:
        logger.error("%s", error, exc_info=error)
    response = _page(error) if is_navigation() else _problem(error)
    response.status_code = error.status
    retry_after = getattr(error, "retry_after", 0.0)
    if retry_after and error.status >= 500:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    if isinstance(error, SignInRequired):
        response.headers["WWW-Authenticate"] = "Bearer"
    return private(response)


def private(response: BaseResponse) -> BaseResponse:
    """Keep a response out of caches and its URL out of ``Referer`` headers; return it."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _detail(error: TokenRotateError) -> str:
    """Return the text for visitors: what to change on the server is only for the log."""
    if not error.for_operators or current_app.debug:
        return str(error)
    if isinstance(error, TryLater):
        return "A part of this site is not available. The log says which."
    return "The server is not set up correctly. The log says what to change."


def _problem(error: TokenRotateError) -> Response:
    problem: dict[str, object] = {
        "type": "about:blank",
        "title": TITLES[error.status],
        "status": error.status,
        "detail": _detail(error),
        "code": error.code,
    }
    for name in ("provider", "reason", "login_url", "retry_after"):
        value = getattr(error, name, None)
        if value is not None:
            problem[name] = value
    return Response(json.dumps(problem), content_type="application/problem+json")


def _page(error: TokenRotateError) -> Response:
    again = login_url(error.provider, next_url="/") if isinstance(error, SignInFailed) else None
    page = render_template(
        "tokenrotate/error.html", title=TITLES[error.status], detail=_detail(error), again=again
    )
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def register_error_handler(app: Flask) -> None:
    """Register `error_response` for all our errors, unless the application handles `TokenRotateError`."""
    handlers = app.error_handler_spec[None][None]
    if TokenRotateError not in handlers:
        app.register_error_handler(TokenRotateError, error_response)
