"""The sign-in views: the authorization code grant with PKCE (RFC 6749, 7636, 9207, 9700).

Each attempt is stored in the database under a hash of its `state`, is bound to the browser by a cookie, and
can be used once. Two tabs make two attempts, and both can be completed.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response

from ..attempts import Attempt
from ..errors import CrossSiteRequest, UnknownProvider
from ..provider import Provider
from ..rotation.tokens import Secret, parse_scopes
from ..rotation.verdict import Rotated
from ..sessions.grants_in_session import asked_scopes
from .browser_binding import (
    browser_id,
    delete_cookie,
    is_from_this_host,
    new_browser_id,
    new_state,
    set_cookie,
)
from .callback_errors import attempt_not_found, exchange_error, malformed, provider_error, wrong_issuer
from .claims import user_claims
from .cross_site import is_cross_site
from .error_responses import private, wants_html
from .require_fresh_token import declared_scopes
from .sign_in_and_out import kept_if_abandoned, sign_in, sign_out
from .state import State, current_state
from .urls import callback_url, safe_next

blueprint = Blueprint("tokenrotate", __name__, template_folder="templates")

_HOP = "hop"

_LONGEST = {"state": 64, "code": 4096, "iss": 2048, "error": 256}
"""The maximum length of each callback parameter in characters. A code may be a whole JWT."""


@blueprint.before_request
def refuse_raw_bytes() -> None:
    """Refuse a query that is not percent-encoded: reading it would raise UnicodeDecodeError."""
    if not request.query_string.isascii():
        raise malformed((request.view_args or {})["provider"], "query")


@blueprint.get("/<provider>/login")
def login(provider: str) -> Response:
    """Begin a sign-in and redirect the browser to the provider."""
    state = current_state()
    profile = state.provider(provider)
    if _is_at_another_host(state):
        # The provider redirects to the public host, which would not get a cookie that is set here.
        return private(redirect(_at_public_origin(state, provider)))
    oauth_state, browser = new_state(), new_browser_id()
    attempt = Attempt(
        provider=provider,
        verifier=Secret(secrets.token_urlsafe(64)),
        nonce=Secret(secrets.token_urlsafe(32)),
        redirect_uri=callback_url(state, provider),
        next_url=safe_next(request.args.get("next")),
        scopes=frozenset(profile.scopes) | _step_up_scopes() | asked_scopes(session, provider),
    )
    seconds = state.settings.attempt_seconds
    state.attempts.begin(oauth_state, browser, attempt, seconds=seconds)
    response = redirect(state.authorization_url(profile, attempt, oauth_state))
    set_cookie(response, oauth_state, browser, seconds=seconds)
    return private(response)


def _is_at_another_host(state: State) -> bool:
    """Return whether the request is for another host than ``TOKENROTATE_BASE_URL``.

    It is False after one redirect: behind a proxy that does not pass the host on, no request ever seems to
    be for the public host.
    """
    base_url = state.settings.base_url
    return base_url is not None and urlsplit(base_url).netloc != request.host and _HOP not in request.args


def _at_public_origin(state: State, provider: str) -> str:
    query: dict[str, str] = {**request.args.to_dict(), _HOP: "1"}
    path = url_for("tokenrotate.login", provider=provider, _external=False)
    return f"{state.settings.base_url}{path}?{urlencode(query)}"


def _step_up_scopes() -> frozenset[str]:
    """Return the scopes in the URL; a foreign link can ask only for those that some view requires."""
    return (parse_scopes(request.args.get("scope", "")) or frozenset()) & declared_scopes


@blueprint.get("/<provider>/callback")
def callback(provider: str) -> Response:
    """Handle the authorization response: exchange the code, and sign the session in with a new grant."""
    state = current_state()
    profile = state.provider(provider)
    parameters = _callback_parameters(provider)
    oauth_state = Secret(parameters.get("state", ""))
    attempt = state.attempts.take(oauth_state, browser_id(oauth_state))
    if isinstance(attempt, str):
        raise attempt_not_found(provider, attempt, from_this_host=is_from_this_host(oauth_state))
    _check_issuer(profile, attempt, parameters.get("iss"))
    code = parameters.get("code")
    if not code:
        raise provider_error(provider, parameters.get("error"))
    verdict = state.exchange(attempt, Secret(code), state.call_deadline())
    if not isinstance(verdict, Rotated):
        raise exchange_error(provider, verdict)
    with kept_if_abandoned(state, provider, verdict.response):
        claims = user_claims(state, profile, verdict.response, attempt.nonce)
        sign_in(state, provider, verdict.response, profile.subject(claims), claims, scopes=attempt.scopes)
    response = redirect(attempt.next_url, code=303)
    delete_cookie(response, oauth_state)
    return private(response)


def _callback_parameters(provider: str) -> dict[str, str]:
    """Return the parameters of the authorization response. Raises `SignInFailed` for malformed ones."""
    found = {}
    for name, longest in _LONGEST.items():
        values = request.args.getlist(name)
        if len(values) > 1 or any(len(value) > longest for value in values):
            raise malformed(provider, f"parameter {name!r}")
        if values:
            found[name] = values[0]
    return found


def _check_issuer(profile: Provider, attempt: Attempt, issuer: str | None) -> None:
    """Raise `SignInFailed` for the response of another authorization server (RFC 9207 section 2.4)."""
    is_missing = issuer is None and profile.checks_iss
    is_wrong = None not in (issuer, profile.issuer) and issuer != profile.issuer
    if attempt.provider != profile.name or is_missing or is_wrong:
        raise wrong_issuer(profile.name)


@blueprint.post("/<provider>/logout")
def logout(provider: str) -> Response:
    """Sign the session out of ``provider``: end the grant, then revoke its tokens."""
    state = current_state()
    # SameSite is not enough: the application may set SameSite=None on its session cookie.
    if is_cross_site(state):
        raise CrossSiteRequest
    sign_out(state, provider)
    if not wants_html():
        return private(Response(status=204))
    return private(redirect(safe_next(request.values.get("next")), code=303))


@blueprint.errorhandler(UnknownProvider)
def unknown_provider(error: UnknownProvider) -> tuple[str, int]:
    """Respond with 404: the provider's name in a URL is the visitor's input, not a configuration error."""
    return "There is no such provider.", 404
