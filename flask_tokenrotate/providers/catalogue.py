"""Known providers. An entry states what a page of the provider (or an observation) says, and nothing else.

To add a provider, add an entry to `CATALOGUE`; nothing else has to change. Facts are fields of `Provider`
and `ResponseRules`. ``{…}`` in a URL is a parameter of the entry: an option of `register`, which
`Parameters` must have. Facts that no page states are left to the defaults. ``on_unknown`` is left to its
default, ``"replay"``, on purpose: without a grace period, one replay loses nothing that was not lost before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

CHECKED = "2026-09"
"""When the sources were last read."""


class Parameters(TypedDict, total=False):
    """The parameters that some entry has, as options of `TokenRotate.register`."""

    base_url: str
    domain: str
    realm: str
    server: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Stated:
    """Facts and the page that states them."""

    source: str
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Entry:
    """One provider: its statements, and its parameters with their defaults (None: must be given)."""

    statements: tuple[Stated, ...]
    parameters: Mapping[str, str | None] = field(default_factory=dict)

    def facts(self) -> dict[str, object]:
        """Return a new mapping of all facts."""
        return {name: fact for stated in self.statements for name, fact in stated.facts.items()}


def said(source: str, **facts: object) -> Stated:
    """Return the facts that ``source`` states."""
    return Stated(source, facts)


CATALOGUE: Mapping[str, Entry] = {
    # Refresh tokens are single use for PKCE clients without a secret. A response often has no new
    # one. Each expires six months after the consent, whatever is refreshed
    # (developer.spotify.com/blog/2026-06-18-refresh-token-expiration).
    "spotify": Entry(
        (
            said(
                "https://developer.spotify.com/documentation/web-api/tutorials/code-flow",
                authorization_endpoint="https://accounts.spotify.com/authorize",
                token_endpoint="https://accounts.spotify.com/api/token",
            ),
            said(
                "https://developer.spotify.com/documentation/web-api/tutorials/refreshing-tokens",
                client_auth="basic",
            ),
            said(
                "https://developer.spotify.com/documentation/web-api/reference/get-current-users-profile",
                userinfo_endpoint="https://api.spotify.com/v1/me",
                subject_field="id",
            ),
        )
    ),
    # Refresh tokens do not rotate. Only a consent to offline access gives one.
    "google": Entry(
        (
            said(
                "https://accounts.google.com/.well-known/openid-configuration",
                issuer="https://accounts.google.com",
                authorization_endpoint="https://accounts.google.com/o/oauth2/v2/auth",
                token_endpoint="https://oauth2.googleapis.com/token",
                revocation_endpoint="https://oauth2.googleapis.com/revoke",
                userinfo_endpoint="https://openidconnect.googleapis.com/v1/userinfo",
            ),
            said(
                "https://developers.google.com/identity/protocols/oauth2/web-server",
                client_auth="post",
                authorize_params={"access_type": "offline", "prompt": "consent"},
            ),
        )
    ),
    # GitHub Apps: a refresh invalidates the old refresh token and the old access token at once, and
    # every error comes with status 200. Its revocation endpoint does not follow RFC 7009.
    "github": Entry(
        (
            said(
                "https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/"
                "generating-a-user-access-token-for-a-github-app",
                authorization_endpoint="https://github.com/login/oauth/authorize",
                token_endpoint="https://github.com/login/oauth/access_token",
                client_auth="post",
                scope_separators=" ,",
            ),
            said(
                "https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/"
                "refreshing-user-access-tokens",
                rotation_kills_access_token=True,
            ),
            said(
                "https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/"
                "troubleshooting-oauth-app-access-token-request-errors",
                refused_errors=("invalid_grant", "bad_refresh_token", "bad_verification_code"),
            ),
            said(
                "https://docs.github.com/en/rest/users/users",
                userinfo_endpoint="https://api.github.com/user",
                subject_field="id",
            ),
        )
    ),
    # Each refresh gives a new refresh token, and the old one remains valid.
    "microsoft": Entry(
        (
            said(
                "https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow",
                authorization_endpoint="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
                token_endpoint="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
                client_auth="post",
            ),
            said(
                "https://learn.microsoft.com/entra/identity-platform/userinfo",
                userinfo_endpoint="https://graph.microsoft.com/oidc/userinfo",
            ),
        ),
        parameters={"tenant": "common"},
    ),
    # Rotation is optional; the grace period is 0 by default; a refusal is 403 invalid_grant.
    "auth0": Entry(
        (
            said(
                "https://auth0.com/docs/get-started/applications/configure-applications-with-oidc-discovery",
                issuer="https://{domain}/",
                authorization_endpoint="https://{domain}/authorize",
                token_endpoint="https://{domain}/oauth/token",
                userinfo_endpoint="https://{domain}/userinfo",
            ),
            said(
                "https://auth0.com/docs/secure/tokens/refresh-tokens/revoke-refresh-tokens",
                revocation_endpoint="https://{domain}/oauth/revoke",
                client_auth="post",
            ),
        ),
        parameters={"domain": None},
    ),
    # The entry is for a custom authorization server, of which each organisation has "default".
    "okta": Entry(
        (
            said(
                "https://developer.okta.com/docs/api/openapi/okta-oauth/oauth/tag/CustomAS/",
                issuer="https://{domain}/oauth2/{server}",
                authorization_endpoint="https://{domain}/oauth2/{server}/v1/authorize",
                token_endpoint="https://{domain}/oauth2/{server}/v1/token",
                revocation_endpoint="https://{domain}/oauth2/{server}/v1/revoke",
                userinfo_endpoint="https://{domain}/oauth2/{server}/v1/userinfo",
                client_auth="basic",
            ),
            said("https://developer.okta.com/docs/guides/refresh-tokens/main/", grace_seconds=30.0),
        ),
        parameters={"domain": None, "server": "default"},
    ),
    # With revokeRefreshToken on, a second use ends the client's session, and all its tokens
    # (keycloak/keycloak issue 14040). There is no grace period in seconds, only a count.
    "keycloak": Entry(
        (
            said(
                "https://www.keycloak.org/securing-apps/oidc-layers",
                issuer="{base_url}/realms/{realm}",
                authorization_endpoint="{base_url}/realms/{realm}/protocol/openid-connect/auth",
                token_endpoint="{base_url}/realms/{realm}/protocol/openid-connect/token",
                revocation_endpoint="{base_url}/realms/{realm}/protocol/openid-connect/revoke",
                userinfo_endpoint="{base_url}/realms/{realm}/protocol/openid-connect/userinfo",
            ),
        ),
        parameters={"base_url": None, "realm": None},
    ),
    "discord": Entry(
        (
            said(
                "https://discord.com/developers/docs/topics/oauth2",
                authorization_endpoint="https://discord.com/oauth2/authorize",
                token_endpoint="https://discord.com/api/oauth2/token",
                revocation_endpoint="https://discord.com/api/oauth2/token/revoke",
                client_auth="basic",
            ),
            said(
                "https://discord.com/developers/docs/resources/user",
                userinfo_endpoint="https://discord.com/api/users/@me",
                subject_field="id",
            ),
        )
    ),
}
