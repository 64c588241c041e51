"""Sign-in, callback and sign-out: the authorization code grant with PKCE (RFC 6749, 7636, 9207, 9700).

Each attempt lives in the database under a hash of its `state`, bound to the browser by a cookie, and
is used once. Two tabs are two attempts of one browser, so both work.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, current_app, redirect, request, session, url_for
from werkzeug.wrappers import Response

from .. import cookies
from ..attempts import Attempt
from ..errors import (
    CrossSiteRequest,
    ProviderMisconfigured,
    ProviderUnavailable,
    SignInFailed,
    UnknownProvider,
)
from ..providers.authorize import authorization_url
from ..rotation.tokens import Secret, parse_scopes
from ..rotation.verdict import Misconfigured, Refused, Rotated, Verdict
from ..sessions import grants_in_session as sessions
from .addresses import callback_url, is_cross_site, safe_next
from .callback_errors import denied_or_broken, malformed, mismatch, other_issuer
from .error_responses import private, wants_html
from .identity import who_signed_in
from .require_fresh_token import declared_scopes
from .sign_in import kept_if_abandoned, sign_in, sign_out
from .state import State, current_state

blueprint = Blueprint("tokenrotate", __name__, template_folder="templates")

_COOKIE = "tokenrotate"
_HOP = "hop"
_BROWSER_ID = re.compile(r"[A-Za-z0-9_-]{43}\Z")

_LONGEST = {"state": 64, "code": 4096, "iss": 2048, "error": 256}
"""Characters of each callback parameter: a state is ours, a code may be a whole JWT."""


def _cookie_name(oauth_state: Secret) -> str:
    """Each attempt has a cookie of its own, so that two tabs which begin together both end well."""
    return cookies.host_bound(f"{_COOKIE}-{oauth_state.fingerprint()}", request)


def _is_secure() -> bool:
    return cookies.is_secure(current_app, request)


def _browser_id(oauth_state: Secret) -> Secret | None:
    """Return the attempt's cookie if it can be one of ours; anything else planted there is no cookie."""
    cookie = request.cookies.get(_cookie_name(oauth_state), "")
    return Secret(cookie) if _BROWSER_ID.match(cookie) else None


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
        return private(redirect(_at_the_public_origin(state, provider)))
    browser = secrets.token_urlsafe(32)
    oauth_state = Secret(f"{secrets.token_urlsafe(32)}.{_host_mark()}")
    attempt = Attempt(
        provider=provider,
        verifier=Secret(secrets.token_urlsafe(64)),
        nonce=Secret(secrets.token_urlsafe(32)),
        redirect_uri=callback_url(state, provider),
        next_url=safe_next(request.args.get("next")),
        scopes=frozenset(profile.scopes) | _asked_scopes() | sessions.asked_scopes(session, provider),
    )
    state.attempts.begin(oauth_state, Secret(browser), attempt, seconds=state.settings.attempt_seconds)
    address = authorization_url(
        profile,
        redirect_uri=attempt.redirect_uri,
        state=oauth_state,
        verifier=attempt.verifier,
        nonce=attempt.nonce,
        scopes=sorted(attempt.scopes),
    )
    response = redirect(address)
    _bind_browser(response, oauth_state, browser, state.settings.attempt_seconds)
    return private(response)


def _begun_at_another_host(state: State) -> bool:
    """Once only: behind a proxy that does not pass the host on, it never looks like the public one."""
    base_url = state.settings.base_url
    return base_url is not None and urlsplit(base_url).netloc != request.host and _HOP not in request.args


def _at_the_public_origin(state: State, provider: str) -> str:
    query: dict[str, str] = {**request.args.to_dict(), _HOP: "1"}
    path = url_for("tokenrotate.login", provider=provider, _external=False)
    return f"{state.settings.base_url}{path}?{urlencode(query)}"


def _asked_scopes() -> frozenset[str]:
    """Return the scopes of a step-up; a foreign link can ask for nothing that no view asks for."""
    return (parse_scopes(request.args.get("scope", "")) or frozenset()) & declared_scopes


def _bind_browser(response: Response, oauth_state: Secret, browser: str, seconds: float) -> None:
    response.set_cookie(
        _cookie_name(oauth_state),
        browser,
        max_age=int(seconds),
        path="/",
        httponly=True,
        secure=_is_secure(),
        samesite="Lax",
    )


@blueprint.get("/<provider>/callback")
def callback(provider: str) -> Response:
    """Take the provider's answer, exchange the code, and sign the session in with a new grant."""
    state = current_state()
    profile = state.provider(provider)
    parameters = _callback_parameters(provider)
    oauth_state = Secret(parameters.get("state", ""))
    attempt = state.attempts.take(oauth_state, _browser_id(oauth_state))
    if isinstance(attempt, str):
        raise mismatch(provider, attempt, begun_here=oauth_state.reveal().endswith("." + _host_mark()))
    issuer = parameters.get("iss")
    if attempt.provider != provider or (issuer is None and profile.checks_iss):
        raise other_issuer(provider)
    if issuer is not None and profile.issuer is not None and issuer != profile.issuer:
        raise other_issuer(provider)
    code = parameters.get("code")
    if not code:
        raise denied_or_broken(provider, parameters.get("error"))
    verdict = state.endpoint.exchange(
        provider,
        Secret(code),
        verifier=attempt.verifier,
        redirect_uri=attempt.redirect_uri,
        deadline=state.clock.monotonic() + state.settings.redeem_seconds,
    )
    if not isinstance(verdict, Rotated):
        raise _exchange_error(provider, verdict)
    with kept_if_abandoned(state, provider, verdict.response):
        claims = who_signed_in(state, profile, verdict.response, attempt)
        sign_in(state, provider, verdict.response, profile.subject(claims), claims, attempt=attempt)
    response = redirect(attempt.next_url, code=303)
    response.delete_cookie(_cookie_name(oauth_state), secure=_is_secure())
    return private(response)


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
    if not wants_html():
        return private(Response(status=204))
    return private(redirect(safe_next(request.values.get("next")), code=303))


@blueprint.errorhandler(UnknownProvider)
def unknown_provider(error: UnknownProvider) -> tuple[str, int]:
    """A provider's name in an address is the visitor's input, not a defect of the configuration."""
    return "There is no such provider.", 404
