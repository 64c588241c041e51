"""The token and the revocation endpoint, with their faults and their log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

from oauthlib.oauth2 import OAuth2Error
from werkzeug.wrappers import Request, Response

from ...rotation.tokens import Secret
from .journal import LogEntry, Outcome
from .knobs import Fate
from .rules import Rules
from .state import ProviderState

Endpoint = Literal["token", "revoke"]

_FORM = "application/x-www-form-urlencoded"


def token(provider: ProviderState, request: Request) -> Response:
    """Respond to a token request. Raises a `ConnectionError` if the connection is to be cut instead."""
    provider.gates.pass_through("received")
    provider.pause(provider.response_seconds)
    fate = provider.next_fate()
    if fate in ("fail", "rate_limit", "reset"):
        return _fail(provider, request, fate)
    response = _process(provider, "token", request, delivered=fate == "respond")
    provider.gates.pass_through("processed")
    provider.pause(provider.after_seconds)
    if fate == "drop":
        raise ConnectionAbortedError("drop_next: processed, and closed without a response")
    return _cut(response) if fate == "cut" else response


def revoke(provider: ProviderState, request: Request) -> Response:
    """Respond to a revocation request (RFC 7009)."""
    if provider.outage:
        _note(provider, "revoke", request, "failed", provider.fail_status)
        return failure(provider, provider.fail_status)
    return _process(provider, "revoke", request)


def failure(provider: ProviderState, status: int) -> Response:
    """Return the response of a failing server, with ``Retry-After`` unless ``retry_after`` is 0."""
    response = error(status, "temporarily_unavailable", "A knob of this FakeProvider is set to this fault.")
    if provider.retry_after:
        response.headers["Retry-After"] = str(provider.retry_after)
    return response


def error(status: int, code: str, description: str) -> Response:
    """Return an error as RFC 6749 section 5.2 writes it."""
    body = json.dumps({"error": code, "error_description": description})
    return Response(body, status, mimetype="application/json")


def _fail(provider: ProviderState, request: Request, fate: Fate) -> Response:
    if fate == "reset":
        _note(provider, "token", request, "reset", 0, delivered=False)
        raise ConnectionResetError("reset_next: not processed, and reset")
    outcome: Outcome
    outcome, status = ("limited", 429) if fate == "rate_limit" else ("failed", provider.fail_status)
    _note(provider, "token", request, outcome, status)
    return failure(provider, status)


def _process(
    provider: ProviderState, endpoint: Endpoint, request: Request, *, delivered: bool = True
) -> Response:
    # Under the lock, looking up, judging and spending a token are one step, and the log has the same order.
    with provider.ledger.lock:
        rules = Rules(provider.client, provider.ledger, provider)
        response = _malformed(request) or _ask_oauthlib(rules, endpoint, request)
        _note(provider, endpoint, request, rules.outcome, response.status_code, rules, delivered=delivered)
    if response.status_code == 401 and request.authorization:
        # RFC 6749 section 5.2: the challenge has to match the scheme that the client used.
        response.headers["WWW-Authenticate"] = 'Basic realm="FakeProvider"'
    return response


def _malformed(request: Request) -> Response | None:
    if request.mimetype != _FORM:
        return error(400, "invalid_request", f"Send the parameters as {_FORM}.")
    repeated = sorted(name for name, values in request.form.lists() if len(values) > 1)
    if repeated:  # RFC 6749 section 3.2
        return error(400, "invalid_request", f"Parameters sent more than once: {', '.join(repeated)}.")
    return None


def _ask_oauthlib(rules: Rules, endpoint: Endpoint, request: Request) -> Response:
    server = rules.server()
    respond = server.create_token_response if endpoint == "token" else server.create_revocation_response
    try:
        body = request.get_data(as_text=True)
        headers, text, status = respond(request.full_path.rstrip("?"), "POST", body, dict(request.headers))
    except OAuth2Error as refusal:
        return error(refusal.status_code, str(refusal.error), refusal.description)
    except ValueError:
        return error(400, "invalid_request", "The parameters are not properly form-encoded.")
    return Response(text, status, headers)


def _cut(response: Response) -> Response:
    body = response.get_data()

    def half() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        raise ConnectionAbortedError("cut_next: closed in the middle of the body")

    return Response(half(), response.status_code, [*response.headers, ("Content-Length", str(len(body)))])


def _note(
    provider: ProviderState,
    endpoint: Endpoint,
    request: Request,
    outcome: Outcome,
    status: int,
    rules: Rules | None = None,
    *,
    delivered: bool = True,
) -> None:
    value = request.form.get("refresh_token" if endpoint == "token" else "token")
    presented = Secret(value) if value else None
    with provider.ledger.lock:
        family = (rules and rules.family) or (provider.ledger.family_of(presented) if presented else None)
    entry = LogEntry(
        at=provider.ledger.now(),
        endpoint=endpoint,
        grant_type=request.form.get("grant_type"),
        presented=presented.fingerprint() if presented else None,
        family=family.id if family else None,
        user=family.user if family else None,
        outcome=outcome,
        status=status,
        delivered=delivered,
    )
    provider.journal.append(entry)
