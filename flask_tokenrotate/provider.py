"""What is known about a provider: its endpoints, the client registered there, and how it rotates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .errors import ConfigurationError
from .rotation.protocol import OnUnknown, Policy
from .rotation.token_response import ResponseRules
from .rotation.tokens import Secret
from .secure_urls import check_url

ClientAuth = Literal["basic", "post", "none"]

ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "issuer",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Provider:
    """One registered provider, with the names of RFC 8414 where it has them. Durations are in seconds.

    ``client_auth``: ``"basic"`` (RFC 6749 section 2.3.1), ``"post"`` (id and secret in the body) or
    ``"none"`` (a public client). ``scopes`` are requested at sign-in.

    ``on_unknown``: what to do when a redemption ended without a known outcome: ``"replay"`` posts
    the same refresh token once more, ``"reauthorize"`` asks the user to sign in. ``grace_seconds``: how
    long the provider accepts a spent refresh token. ``rotation_kills_access_token``: a rotation
    invalidates the old access token. ``ahead_seconds`` and ``min_ttl_seconds`` override the settings.

    ``authorize_params`` and ``token_params`` are added to the two requests. ``subject_field`` names
    the user's id in the userinfo response. ``checks_iss``: a callback without ``iss`` is refused
    (RFC 9207); one that has it is compared with ``issuer`` in any case.
    """

    name: str
    client_id: str
    authorization_endpoint: str
    token_endpoint: str
    client_secret: Secret | None = None
    revocation_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    issuer: str | None = None
    scopes: tuple[str, ...] = ()
    client_auth: ClientAuth = "basic"
    on_unknown: OnUnknown = "replay"
    grace_seconds: float = 0.0
    rotation_kills_access_token: bool = False
    ahead_seconds: float | None = None
    min_ttl_seconds: float | None = None
    response_rules: ResponseRules = field(default_factory=ResponseRules)
    authorize_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict, repr=False)
    subject_field: str = "sub"
    checks_iss: bool = False

    def __post_init__(self) -> None:
        for name in ENDPOINTS:
            url = getattr(self, name)
            if url is not None:
                check_url(url, f"Provider {self.name!r}: {name}")
        if self.client_auth != "none" and self.client_secret is None:
            raise ConfigurationError(
                f"Provider {self.name!r}: client_auth is {self.client_auth!r}, but there is no "
                f"client_secret. {how_to_set(self.name, 'client_secret')} For a public "
                "client, set client_auth='none'."
            )
        if self.checks_iss and self.issuer is None:
            raise ConfigurationError(
                f"Provider {self.name!r}: checks_iss needs an issuer to compare with. "
                f"{how_to_set(self.name, 'issuer')}"
            )

    def subject(self, claims: Mapping[str, object]) -> str | None:
        """Return the user's id in userinfo or ID token claims, None when it is not there."""
        value = claims.get(self.subject_field)
        if isinstance(value, bool) or not isinstance(value, str | int):
            return None
        return str(value) or None

    def policy(self, *, min_ttl: float, ahead: float, settle: float) -> Policy:
        """Return how to rotate at this provider; the arguments are the settings' defaults, in seconds.

        Where a rotation invalidates the access token that other requests use at that moment, there is no
        ahead window unless the profile asks for one. A replay never waits for longer than the provider's
        grace period, after which it would be refused.
        """
        if self.ahead_seconds is not None:
            ahead = self.ahead_seconds
        elif self.rotation_kills_access_token:
            ahead = 0.0
        return Policy(
            min_ttl=min_ttl if self.min_ttl_seconds is None else self.min_ttl_seconds,
            ahead=ahead,
            on_unknown=self.on_unknown,
            settle=min(settle, self.grace_seconds) if self.grace_seconds else settle,
            grace=self.grace_seconds,
        )


def how_to_set(name: str, key: str) -> str:
    """Return the sentence that says where a field of provider ``name`` can be set."""
    return (
        f"Pass {key}=… to register({name!r}, …), or set "
        f"FLASK_TOKENROTATE_PROVIDERS__{name}__{key.upper()} in the environment."
    )
