"""Sign-in, callback and sign-out: the authorization code grant with PKCE (RFC 6749, 7636, 9207, 9700).

Each attempt lives in the database under a hash of its `state`, bound to the browser by a cookie, and
is used once. Two tabs are two attempts of one browser, so both work.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response

from ..errors import (
    CrossSiteRequest,
    ProviderMisconfigured,
    ProviderUnavailable,
    SignInFailed,
    UnknownProvider,
)
from ..rotation.tokens import Attempt, Secret, parse_scopes
from ..rotation.verdict import Misconfigured, Refused, Rotated, Verdict
from .addresses import callback_url, is_cross_site, is_loopback, safe_next
from .answers import private
from .failures import denied_or_broken, malformed, mismatch, other_issuer
from .identity import who_signed_in
from .sign_in import sign_in, sign_out
from .state import State, current_state

blueprint = Blueprint("tokenrotate", __name__, template_folder="templates")

_SCOPE_TOKENS = re.compile(r"[\x21\x23-\x5B\x5D-\x7E ]*\Z")
_COOKIE = "tokenrotate"
_BROWSER_ID = re.compile(r"[A-Za-z0-9_-]{43}\Z")

_LONGEST = {"state": 64, "code": 4096, "iss": 2048, "error": 256}
"""Characters of each callback parameter: a state is ours, a code may be a whole JWT."""


def _cookie_name() -> str:
    """The ``__Host-`` prefix keeps other hosts of the domain from planting the cookie; it wants TLS."""
    return f"__Host-{_COOKIE}" if request.is_secure else _COOKIE


def _browser_id() -> str | None:
    """Return the cookie if it can be one of ours; whatever else was planted under its name is no cookie."""
    cookie = request.cookies.get(_cookie_name(), "")
    return cookie if _BROWSER_ID.match(cookie) else None


def _host_mark() -> str:
    """A few characters of the state that tell the callback at which host the attempt began."""
    return hashlib.sha256(request.host.encode()).hexdigest()[:8]


@blueprint.before_request
def refuse_raw_bytes() -> None:
    """Refuse a query that is not percent-encoded: Werkzeug raises UnicodeDecodeError when it is read."""
    if not request.query_string.isascii():
        raise malformed((request.view_args or {})["provider"], "query")


@blueprint.get("/<provider>/login")
def login(provider: str) -> Response:
    """Begin a sign-in and send the browser to the provider."""
    state = current_state()
    profile = state.provider(provider)
    if _begun_at_another_host(state):
        # The cookie set here would not come back to the host that the provider answers to.
        return private(redirect(f"{state.settings.base_url}{request.full_path}"))
    browser = _browser_id() or secrets.token_urlsafe(32)
    oauth_state = Secret(f"{secrets.token_urlsafe(32)}.{_host_mark()}")
    attempt = Attempt(
        provider=provider,
        verifier=Secret(secrets.token_urlsafe(64)),
        nonce=Secret(secrets.token_urlsafe(32)),
        redirect_uri=callback_url(state, provider),
        next_url=safe_next(request.args.get("next")),
        scopes=frozenset(profile.scopes) | _asked_scopes(),
    )
    state.attempts.begin(oauth_state, Secret(browser), attempt, seconds=state.settings.attempt_seconds)
    address = state.authorization_url(
        profile,
        redirect_uri=attempt.redirect_uri,
        state=oauth_state,
        verifier=attempt.verifier,
        nonce=attempt.nonce,
        scopes=sorted(attempt.scopes),
    )
    response = redirect(address)
    _bind_browser(response, browser, state.settings.attempt_seconds)
    return private(response)


def _begun_at_another_host(state: State) -> bool:
    base_url = state.settings.base_url
    return base_url is not None and base_url.partition("://")[2] != request.host


def _asked_scopes() -> frozenset[str]:
    asked = request.args.get("scope", "")
    return (parse_scopes(asked) or frozenset()) if _SCOPE_TOKENS.match(asked) else frozenset()


def _bind_browser(response: Response, browser: str, seconds: float) -> None:
    response.set_cookie(
        _cookie_name(),
        browser,
        max_age=int(seconds),
        path="/",
        httponly=True,
        secure=request.is_secure or not is_loopback(request),
        samesite="Lax",
    )


@blueprint.get("/<provider>/callback")
def callback(provider: str) -> Response:
    """Take the provider's answer, exchange the code, and sign the session in with a new grant."""
    state = current_state()
    profile = state.provider(provider)
    answer = _callback_parameters(provider)
    oauth_state = answer.get("state", "")
    browser = _browser_id()
    attempt = state.attempts.take(Secret(oauth_state), None if browser is None else Secret(browser))
    if isinstance(attempt, str):
        raise mismatch(provider, attempt, begun_here=oauth_state.endswith("." + _host_mark()))
    issuer = answer.get("iss")
    if attempt.provider != provider or (issuer is None and profile.checks_iss):
        raise other_issuer(provider)
    if issuer is not None and profile.issuer is not None and issuer != profile.issuer:
        raise other_issuer(provider)
    code = answer.get("code")
    if not code:
        raise denied_or_broken(provider, answer.get("error"))
    verdict = state.endpoint.exchange(
        provider,
        Secret(code),
        verifier=attempt.verifier,
        redirect_uri=attempt.redirect_uri,
        deadline=state.clock.monotonic() + state.settings.redeem_seconds,
    )
    if not isinstance(verdict, Rotated):
        raise _exchange_error(provider, verdict)
    claims = who_signed_in(state, profile, verdict.answer, attempt)
    sign_in(state, provider, verdict.answer, profile.subject(claims), claims, attempt=attempt)
    return private(redirect(attempt.next_url, code=303))


def _callback_parameters(provider: str) -> dict[str, str]:
    """Return the parameters of the provider's answer; refuse, before any work, what none can be."""
    found = {}
    for name, longest in _LONGEST.items():
        values = request.args.getlist(name)
        if len(values) > 1 or any(len(value) > longest for value in values):
            raise malformed(provider, f"parameter {name!r}")
        if values:
            found[name] = values[0]
    return found


def _exchange_error(provider: str, verdict: Verdict) -> Exception:
    if isinstance(verdict, Misconfigured):
        return ProviderMisconfigured(provider, verdict.error)
    if isinstance(verdict, Refused):
        return SignInFailed(
            provider,
            "exchange_failed",
            f"{provider!r} did not accept the sign-in ({verdict.error}). Try again.",
        )
    return ProviderUnavailable(provider, retry_after=getattr(verdict, "retry_after", None) or 1.0)


@blueprint.post("/<provider>/logout")
def logout(provider: str) -> Response:
    """Sign the session out of ``provider``: the row first, then the provider, which may be down."""
    state = current_state()
    # Not left to SameSite: the application chooses its session cookie, and may have set None.
    if is_cross_site(state):
        raise CrossSiteRequest
    sign_out(state, provider)
    if not is_html_form():
        return private(Response(status=204))
    return private(redirect(safe_next(request.values.get("next")), code=303))


def is_html_form() -> bool:
    """Return whether a person pressed a button, who wants to see a page next."""
    return any(kind == "text/html" for kind, _ in request.accept_mimetypes)


@blueprint.errorhandler(UnknownProvider)
def unknown_provider(error: UnknownProvider) -> tuple[str, int]:
    """A provider's name in an address is the visitor's input, not a defect of the configuration."""
    return "There is no such provider.", 404
