"""The rules of the FakeProvider, in the form that oauthlib's server classes call.

=========================================  ==================================================
What the token endpoint gets               What happens
=========================================  ==================================================
an unspent refresh token                   it is spent for a new pair (``rotated``), or with
                                           rotation off a new access token only (``kept``)
a spent one inside the grace period        the same pair again (``repeated``)
a spent one otherwise, or a used code      invalid_grant, and the family dies (``reused``)
an unknown one, or one of a dead family    invalid_grant (``refused``)
=========================================  ==================================================
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

from oauthlib.common import Request
from oauthlib.oauth2 import InvalidGrantError, RequestValidator, WebApplicationServer
from oauthlib.oauth2.rfc6749.errors import UnsupportedCodeChallengeMethodError

from ...rotation.tokens import Secret
from .client import Client
from .journal import Outcome
from .knobs import Knobs
from .ledger import CODE_SECONDS, AccessToken, Code, Family, Ledger, Pair, new_token

# These loggers write codes and tokens in full at DEBUG, and a test run may well turn that on.
logging.getLogger("oauthlib.oauth2.rfc6749.grant_types").setLevel(logging.INFO)

_S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class Rules(RequestValidator):
    """Decides about one request. The caller holds the ledger's lock.

    Afterwards ``outcome`` and ``family`` are for the log; ``bearer`` is the access token of the request.
    """

    def __init__(self, client: Client, ledger: Ledger, knobs: Knobs) -> None:
        self.client = client
        self.ledger = ledger
        self.knobs = knobs
        self.outcome: Outcome = "rejected"
        self.family: Family | None = None
        self.bearer: AccessToken | None = None
        self._code: Code | None = None
        self._repeat: Pair | None = None

    def server(self) -> WebApplicationServer:
        """Return an oauthlib server with these rules."""
        server = WebApplicationServer(
            self,
            token_generator=self._new_access_token,
            token_expires_in=self._expires_in,
            refresh_token_generator=self._new_refresh_token,
        )
        for grant in (server.auth_grant, server.refresh_grant):
            grant.register_token_modifier(self._apply_knobs)
        return server

    # The client

    def client_authentication_required(self, request: Request, *_: object, **__: object) -> bool:
        return self.knobs.client_auth != "none"

    def authenticate_client(self, request: Request, *_: object, **__: object) -> bool:
        request.client = self.client
        return self.client.authenticates(request, self.knobs.client_auth)

    def authenticate_client_id(self, client_id: str, request: Request, *_: object, **__: object) -> bool:
        credentials_sent = request.client_secret is not None or "Authorization" in request.headers
        return not credentials_sent and self.validate_client_id(client_id, request)

    def validate_client_id(self, client_id: str, request: Request, *_: object, **__: object) -> bool:
        request.client = self.client
        return client_id == self.client.client_id

    # The authorization request

    def validate_redirect_uri(
        self, client_id: str, redirect_uri: str, request: Request, *_: object, **__: object
    ) -> bool:
        return self.client.accepts_redirect_uri(redirect_uri)

    def get_default_redirect_uri(self, client_id: str, request: Request, *_: object, **__: object) -> str:
        return ""  # means "no default" to oauthlib: the client has to send it

    def validate_response_type(
        self, client_id: str, response_type: str, client: object, request: Request, *_: object, **__: object
    ) -> bool:
        return response_type == "code"

    def get_default_scopes(self, client_id: str, request: Request, *_: object, **__: object) -> list[str]:
        return list(self.client.scopes)

    def validate_scopes(
        self,
        client_id: str,
        scopes: Iterable[str],
        client: object,
        request: Request,
        *_: object,
        **__: object,
    ) -> bool:
        return set(scopes) <= set(self.client.scopes)

    def is_pkce_required(self, client_id: str, request: Request) -> bool:
        """Require PKCE with S256; "plain" does not help against who can read the request (RFC 9700 2.1.1)."""
        challenge = request.code_challenge
        if challenge is not None and (
            request.code_challenge_method != "S256" or not _S256_CHALLENGE.fullmatch(challenge)
        ):
            raise UnsupportedCodeChallengeMethodError(request=request)
        return True

    def save_authorization_code(
        self, client_id: str, code: Any, request: Request, *_: object, **__: object
    ) -> None:
        self.ledger.codes[Secret(code["code"])] = Code(
            user=str(request.user),
            scopes=tuple(request.scopes or ()),
            redirect_uri=str(request.redirect_uri),
            challenge=str(request.code_challenge),
            expires_at=self.ledger.now() + CODE_SECONDS,
        )

    # The token request

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: object, request: Request, *_: object, **__: object
    ) -> bool:
        return True  # oauthlib's server has handlers for the two grant types only

    def validate_code(
        self, client_id: str, code: str, client: object, request: Request, *_: object, **__: object
    ) -> bool:
        self.outcome = "refused"
        found = self.ledger.codes.get(Secret(code))
        if found is None:
            return False
        if found.family is not None:
            self._kill(found.family)
        if found.used:
            return False
        # The first request with the code uses it, right or wrong: there is one try to guess the verifier.
        found.used, self._code = True, found
        request.user, request.scopes = found.user, list(found.scopes)
        return self.ledger.now() < found.expires_at and request.redirect_uri == found.redirect_uri

    def get_code_challenge(self, code: str, request: Request) -> str:
        if request.code_verifier is not None and not _VERIFIER.fullmatch(request.code_verifier):
            raise InvalidGrantError(request=request)
        return self.ledger.codes[Secret(code)].challenge

    def get_code_challenge_method(self, code: str, request: Request) -> str:
        return "S256"

    def confirm_redirect_uri(
        self,
        client_id: str,
        code: str,
        redirect_uri: str,
        client: object,
        request: Request,
        *_: object,
        **__: object,
    ) -> bool:
        return True  # compared in validate_code, where a mismatch is invalid_grant (RFC 6749 5.2)

    def invalidate_authorization_code(
        self, client_id: str, code: str, request: Request, *_: object, **__: object
    ) -> None:
        """Do nothing: the code is already used, and is kept so that its reuse is detected."""

    def validate_refresh_token(
        self, refresh_token: str, client: object, request: Request, *_: object, **__: object
    ) -> bool:
        self.outcome = "refused"
        found = self.ledger.refresh_tokens.get(Secret(refresh_token))
        if found is None:
            return False
        self.family = found.family
        request.user = found.family.user
        if found.spent_at is not None and found.family.alive:
            self._repeat = self.ledger.repeat_of(found, self.knobs.grace_seconds)
            if self._repeat is None:
                self._kill(found.family)
        return found.family.alive

    def get_original_scopes(
        self, refresh_token: str, request: Request, *_: object, **__: object
    ) -> list[str]:
        return list(self.ledger.refresh_tokens[Secret(refresh_token)].family.scopes)

    def is_within_original_scope(
        self, request_scopes: Iterable[str], refresh_token: str, request: Request, *_: object, **__: object
    ) -> bool:
        return False  # oauthlib calls this only for scopes that are not among the original ones

    def _kill(self, family: Family) -> None:
        self.outcome, self.family, family.alive = "reused", family, False

    # What is issued

    def rotate_refresh_token(self, request: Request) -> bool:
        return self.knobs.rotation or self._repeat is not None

    def _new_access_token(self, request: Request) -> str:
        return (self._repeat.access_token if self._repeat else new_token("access")).reveal()

    def _new_refresh_token(self, request: Request) -> str:
        return (self._repeat.refresh_token if self._repeat else new_token("refresh")).reveal()

    def _expires_in(self, request: Request) -> int:
        seconds = self.knobs.lifetime
        if self._repeat:
            seconds = self.ledger.access_tokens[self._repeat.access_token].expires_at - self.ledger.now()
        # A fraction is not rounded; the annotation is oauthlib's.
        return int(seconds) if float(seconds).is_integer() else seconds  # type: ignore[return-value]

    def _apply_knobs(
        self, token: dict[str, object], handler: object, request: Request | None
    ) -> dict[str, object]:
        if request is not None and token["refresh_token"] == request.refresh_token:
            del token["refresh_token"]
        if self.knobs.omit_expires_in:
            del token["expires_in"]
        if self.knobs.scope is not None:
            token["scope"] = self.knobs.scope
        return token

    def save_bearer_token(self, token: Any, request: Any, *_: object, **__: object) -> None:
        if self._repeat:
            self.outcome = "repeated"
            return
        spends = None
        if self._code:
            self.outcome = "issued"
            self.family = self._code.family = self.ledger.start_family(self._code.user, self._code.scopes)
        elif "refresh_token" in token:
            self.outcome, spends = "rotated", Secret(request.refresh_token)
            if self.knobs.kill_old_access_token:
                self.ledger.expire(family=self.family)
        else:
            self.outcome = "kept"
        assert self.family is not None
        self.ledger.issue(
            self.family,
            access_token=Secret(token["access_token"]),
            refresh_token=Secret(token["refresh_token"]) if "refresh_token" in token else None,
            seconds=request.expires_in,
            spends=spends,
        )

    # Tokens at the other endpoints

    def validate_bearer_token(self, token: str | None, scopes: Iterable[str], request: Request) -> bool:
        self.bearer = self.ledger.bearer(Secret(token or ""))
        return self.bearer is not None

    def revoke_token(
        self, token: str, token_type_hint: str, request: Request, *_: object, **__: object
    ) -> None:
        self.outcome = "revoked"
        self.family = self.ledger.revoke(Secret(token))
