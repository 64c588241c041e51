"""The calls to a provider: redeem, exchange, revoke, userinfo."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote_plus, urlencode

from oauthlib.oauth2 import WebApplicationClient

from ..attempts import Attempt
from ..errors import ProviderUnavailable, SignInFailed
from ..provider import Provider
from ..rotation.http_response import HttpResponse, NoResponse
from ..rotation.ports import Clock
from ..rotation.tokens import Secret, TokenSet
from ..rotation.verdict import NOT_PROCESSED, Verdict, verdict
from .call import Call
from .transport import send

REVOKE_SECONDS = 5.0
"""Seconds that revoking one token set may take, all its calls together."""


class OAuthEndpoint:
    """The token, revocation and userinfo endpoints of all registered providers (`ports.TokenEndpoint`).

    ``connect_seconds`` bounds connecting with TLS within each call. Deadlines are moments on
    ``clock.monotonic``, in seconds. Nothing is kept between calls.
    """

    def __init__(self, providers: Callable[[str], Provider], clock: Clock, *, connect_seconds: float) -> None:
        self._providers = providers
        self._clock = clock
        self._connect_seconds = connect_seconds

    def redeem(
        self, provider: str, refresh_token: Secret, *, send_by: float, keep_waiting: Callable[[], float]
    ) -> Verdict:
        """Post the refresh token once (RFC 6749 section 6) and return what the response meant.

        No scope is sent: the grant keeps the one it has. ``send_by`` and ``keep_waiting`` are those of
        `Call`.
        """
        profile = self._providers(provider)
        body = WebApplicationClient(profile.client_id).prepare_refresh_body(
            refresh_token=refresh_token.reveal(),
            body=urlencode(profile.token_params),
            include_client_id=False,
        )
        return self._ask_for_tokens(profile, body, self._call(send_by, keep_waiting))

    def exchange(self, attempt: Attempt, code: Secret, deadline: float) -> Verdict:
        """Post the authorization code of ``attempt`` once (RFC 6749 section 4.1.3), with its PKCE verifier.

        Returns what the response meant.
        """
        profile = self._providers(attempt.provider)
        body = WebApplicationClient(profile.client_id).prepare_request_body(
            code=code.reveal(),
            redirect_uri=attempt.redirect_uri,
            code_verifier=attempt.verifier.reveal(),
            body=urlencode(profile.token_params),
            include_client_id=False,
        )
        return self._ask_for_tokens(profile, body, self._call_until(deadline))

    def revoke(self, provider: str, tokens: TokenSet) -> bool:
        """Revoke the tokens (RFC 7009), best effort; return whether the provider confirmed the first.

        The refresh token comes first, because it can get new access tokens; many servers then revoke the
        access token with it, and do not accept it any more. False without a revocation endpoint.
        """
        profile = self._providers(provider)
        if profile.revocation_endpoint is None:
            return False
        deadline = self._clock.monotonic() + REVOKE_SECONDS
        forms = [{"token": tokens.access_token.reveal(), "token_type_hint": "access_token"}]
        if tokens.refresh_token is not None:
            forms.insert(0, {"token": tokens.refresh_token.reveal(), "token_type_hint": "refresh_token"})
        url = profile.revocation_endpoint
        outcomes = [self._post(profile, url, urlencode(form), self._call_until(deadline)) for form in forms]
        return isinstance(outcomes[0], HttpResponse) and 200 <= outcomes[0].status < 300

    def userinfo(self, provider: str, access_token: Secret, deadline: float) -> dict[str, object]:
        """Return what the provider says about the user.

        Raises `ProviderUnavailable` when it does not respond or is busy, and `SignInFailed` when it
        refuses the token, responds with anything but a JSON object, or has no userinfo endpoint.
        """
        profile = self._providers(provider)
        if profile.userinfo_endpoint is None:
            raise _no_userinfo(profile, "has no userinfo_endpoint registered")
        headers = {"Authorization": f"Bearer {access_token.reveal()}"}
        outcome = send(self._call_until(deadline), "GET", profile.userinfo_endpoint, headers=headers)
        if not isinstance(outcome, HttpResponse) or _is_busy(outcome.status):
            raise ProviderUnavailable(profile.name, retry_after=1.0)
        if outcome.status != 200:
            raise _no_userinfo(profile, f"responded to the userinfo request with status {outcome.status}")
        try:
            claims = json.loads(outcome.body)
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise _no_userinfo(profile, "responded to the userinfo request with no JSON object")
        return claims

    def _ask_for_tokens(self, profile: Provider, body: str, call: Call) -> Verdict:
        return verdict(self._post(profile, profile.token_endpoint, body, call), profile.response_rules)

    def _post(self, profile: Provider, url: str, body: str, call: Call) -> HttpResponse | NoResponse:
        """Post ``body``, to which the client's credentials are added."""
        headers, credentials = client_credentials(profile)
        parts = [part for part in (body, urlencode(credentials)) if part]
        return send(call, "POST", url, headers=headers, form="&".join(parts))

    def _call(self, send_by: float, keep_waiting: Callable[[], float]) -> Call:
        return Call(
            self._clock,
            send_by=send_by,
            connect_seconds=self._connect_seconds,
            keep_waiting=keep_waiting,
        )

    def _call_until(self, deadline: float) -> Call:
        return self._call(deadline, lambda: deadline)


def client_credentials(profile: Provider) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and the form fields that authenticate the client.

    For ``"basic"`` id and secret are form-encoded before they are joined (RFC 6749 section 2.3.1).
    Otherwise a colon or a non-ASCII letter in one would change them.
    """
    secret = "" if profile.client_secret is None else profile.client_secret.reveal()
    match profile.client_auth:
        case "basic":
            pair = f"{quote_plus(profile.client_id)}:{quote_plus(secret)}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}
        case "post":
            return {}, {"client_id": profile.client_id, "client_secret": secret}
        case "none":
            return {}, {"client_id": profile.client_id}


def _is_busy(status: int) -> bool:
    return status in NOT_PROCESSED or status >= 500


def _no_userinfo(profile: Provider, what: str) -> SignInFailed:
    return SignInFailed(
        profile.name,
        "provider_error",
        f"Provider {profile.name!r} {what}. Check userinfo_endpoint and scopes.",
    )
