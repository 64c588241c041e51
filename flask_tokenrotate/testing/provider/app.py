"""The WSGI application of the FakeProvider: its URLs and their views."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request as BaseRequest
from werkzeug.wrappers import Response

from . import endpoints
from .consent import authorize
from .rules import Rules
from .state import ProviderState

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

View = Callable[[ProviderState, "Request"], Response]
Body = Callable[[str, tuple[str, ...], float], dict[str, object]]
"""Returns what a protected resource responds, from user, scopes and seconds left."""


class Request(BaseRequest):
    """A request with a bounded body."""

    max_content_length = 65_536


def addresses(url: str) -> dict[str, str]:
    """Return issuer and endpoints of the provider at ``url``, by their RFC 8414 names."""
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "revocation_endpoint": f"{url}/revoke",
        "userinfo_endpoint": f"{url}/userinfo",
    }


def discovery(provider: ProviderState, request: Request) -> Response:
    """Return the metadata document (RFC 8414)."""
    method = {"basic": "client_secret_basic", "post": "client_secret_post", "none": "none"}
    methods = [method[provider.client_auth]]
    return _json(
        {
            **addresses(provider.url),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "scopes_supported": list(provider.client.scopes),
            "authorization_response_iss_parameter_supported": True,
        }
    )


def userinfo(provider: ProviderState, request: Request) -> Response:
    """Return the claims of the access token's user."""
    if provider.outage:
        return endpoints.failure(provider, provider.fail_status)

    def claims(user: str, scopes: tuple[str, ...], seconds: float) -> dict[str, object]:
        return {"sub": user, "name": user.title(), "email": f"{user}@example.test"}

    return _protected(provider, request, claims)


def me(provider: ProviderState, request: Request) -> Response:
    """Respond like a protected resource of another server: an outage of the provider does not affect it."""

    def profile(user: str, scopes: tuple[str, ...], seconds: float) -> dict[str, object]:
        return {"user": user, "scopes": list(scopes), "seconds_left": round(seconds, 3)}

    return _protected(provider, request, profile)


def _protected(
    provider: ProviderState,
    request: Request,
    body: Body,
) -> Response:
    with provider.ledger.lock:
        rules = Rules(provider.client, provider.ledger, provider)
        # Without the query: a bearer token in a URL is not accepted (RFC 9700 section 4.3.2).
        alive, _ = rules.server().verify_request(request.path, headers=dict(request.headers), scopes=[])
        if alive and rules.bearer is not None:
            family, seconds = rules.bearer.family, rules.bearer.expires_at - provider.ledger.now()
            return _json(body(family.user, family.scopes, seconds))
    challenge = 'Bearer realm="FakeProvider"'
    if request.headers.get("Authorization", "").lower().startswith("bearer "):
        challenge += ', error="invalid_token", error_description="The access token is dead."'
    return Response(status=401, headers={"WWW-Authenticate": challenge})


def log(provider: ProviderState, request: Request) -> Response:
    """Return the log and its counts."""
    return _json(provider.journal.as_json())


def control(provider: ProviderState, request: Request) -> Response:
    """Apply the changes of a POST request; return the values of all knobs.

    Only JSON is accepted: a page of another origin cannot send it without a preflight request.
    """
    if request.method == "POST":
        if request.mimetype != "application/json":
            return endpoints.error(415, "invalid_request", "Send a JSON object as application/json.")
        try:
            changes = json.loads(request.get_data())
            if not isinstance(changes, dict):
                raise ValueError("Send a JSON object.")
            provider.apply(changes)
        except ValueError as mistake:
            return endpoints.error(400, "invalid_request", str(mistake))
    return _json(provider.positions())


def _json(value: object) -> Response:
    return Response(json.dumps(value), mimetype="application/json")


_MAP = Map(
    [
        Rule("/authorize", methods=["GET", "POST"], endpoint=authorize),
        Rule("/token", methods=["POST"], endpoint=endpoints.token),
        Rule("/revoke", methods=["POST"], endpoint=endpoints.revoke),
        Rule("/userinfo", methods=["GET", "POST"], endpoint=userinfo),
        Rule("/api/me", methods=["GET", "POST"], endpoint=me),
        Rule("/.well-known/oauth-authorization-server", methods=["GET"], endpoint=discovery),
        Rule("/.well-known/openid-configuration", methods=["GET"], endpoint=discovery),
        Rule("/log", methods=["GET"], endpoint=log),
        Rule("/control", methods=["GET", "POST"], endpoint=control),
    ]
)


class App:
    """The WSGI callable."""

    def __init__(self, provider: ProviderState) -> None:
        self._provider = provider

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            view, _ = _MAP.bind_to_environ(environ).match()
            request.get_data()  # kept, so that both oauthlib and the form parser can read it
            response: Response = view(self._provider, request)
        except HTTPException as problem:
            response = Response.force_type(problem.get_response(environ))
        response.headers["Cache-Control"] = "no-store"
        return response(environ, start_response)
