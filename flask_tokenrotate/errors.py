"""Every exception of the extension: one tree, branched by what the caller can do about it.

===================================  ======  ====================================================
Class                                Status  What to do
===================================  ======  ====================================================
`ConfigurationError`                      500     fix the configuration; the message names the key
`ProviderMisconfigured`              502     fix the registration at the provider (or the secret)
`SignInRequired`                     401     send the user to sign in; a redirect for HTML pages
`ScopesNotGranted`                   403     do without the scopes; asking again is no use
`SignInFailed`                       400     start signing in again; `reason` tells the cases apart
`CrossSiteRequest`                   403     send the request from a page of the application itself
`TryLater` and its three branches    503     try again after `retry_after` seconds
`InvalidTokenResponse`               400     the token response given to `adopt` cannot be used
`GrantUnreadable`                    500     an operator must look: the stored tokens cannot be read
`NotStorableInSession`               500     store a JSON value under the session key that is named
`LedgerConflict`                     500     an operator must look: a second redemption was prevented
`RescueFailed`                       500     an operator must look: a rescue file cannot be used
===================================  ======  ====================================================

No message, attribute or ``repr`` of these ever carries a token, code, state, secret or key.
"""

from __future__ import annotations

from typing import Literal, Self

SignInFailure = Literal[
    "no_cookie",
    "unknown_state",
    "expired",
    "already_used",
    "other_host",
    "issuer_mismatch",
    "denied",
    "provider_error",
    "exchange_failed",
    "identity_mismatch",
    "malformed",
]


class TokenRotateError(Exception):
    """Base of all errors of this extension.

    ``status`` is the HTTP status that the default error handler answers with; ``code`` is a
    stable machine-readable name in the problem document. ``for_operators``: the text says what to
    change on the server, so it goes to the log and not to a visitor.
    """

    status = 500
    code = "token_rotate_error"
    for_operators = True

    def __copy__(self) -> Self:
        """Return an equal error, for each of several threads that share one failure."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        twin.__cause__ = self.__cause__
        return twin


class ConfigurationError(TokenRotateError):
    """The application's configuration cannot work; the message names the value and the cure."""

    code = "misconfigured"


class ProviderMisconfigured(TokenRotateError):
    """The provider refuses this client: wrong secret, wrong grant type, wrong endpoint.

    The grant stays alive. ``error`` is the provider's own code (such as ``invalid_client``),
    ``retry_after`` is the time in seconds until the provider is asked again.
    """

    status = 502
    code = "provider_misconfigured"

    def __init__(self, provider: str, error: str, retry_after: float = 0.0) -> None:
        self.provider = provider
        self.error = error
        self.retry_after = retry_after
        super().__init__(
            f"The token endpoint of {provider!r} refuses this client ({error}). Check the client id, "
            f"the client secret, client_auth and token_endpoint registered for {provider!r}."
        )


class SignInRequired(TokenRotateError):
    """There is no usable grant: the user has to sign in at the provider.

    ``reason`` is ``"no_grant"``, an end reason of the grant (``"signed_out"``, ``"refused"``,
    ``"replaced"``, ``"other_subject"``), ``"outcome_unknown"``, ``"no_refresh_token"`` or
    ``"missing_scopes"``.
    ``provider`` is None where a grant id names no row, until the request that asked fills it in;
    ``login_url`` likewise, where the error is answered inside a request.
    """

    status = 401
    code = "sign_in_required"
    for_operators = False

    def __init__(
        self,
        provider: str | None,
        reason: str,
        *,
        scopes: frozenset[str] = frozenset(),
        login_url: str | None = None,
    ) -> None:
        self.provider = provider
        self.reason = reason
        self.scopes = scopes
        self.login_url = login_url
        where = "" if provider is None else f" at {provider!r}"
        super().__init__(f"Sign-in{where} is required ({reason}).")


class ScopesNotGranted(TokenRotateError):
    """The user was asked for these scopes and the provider did not grant them; asking again is no use."""

    status = 403
    code = "scopes_not_granted"
    for_operators = False

    def __init__(self, provider: str, scopes: frozenset[str]) -> None:
        self.provider = provider
        self.scopes = scopes
        super().__init__(
            f"{provider!r} was asked for the scopes {', '.join(sorted(scopes))} and did not grant them. "
            "Sign out and in again to be asked once more."
        )


class SignInFailed(TokenRotateError):
    """A sign-in could not be completed; ``reason`` says which case, the message what to do."""

    status = 400
    code = "sign_in_failed"
    for_operators = False

    def __init__(self, provider: str, reason: SignInFailure, message: str) -> None:
        self.provider = provider
        self.reason: SignInFailure = reason
        super().__init__(message)


class CrossSiteRequest(TokenRotateError):
    """Another site's page sent a request that only pages of this application may send."""

    status = 403
    code = "cross_site_request"

    def __init__(self) -> None:
        super().__init__(
            "This request was sent by a page of another site. Sign out from a page of the application. For "
            "the operator: behind a proxy that changes the Host header, set TOKENROTATE_BASE_URL."
        )


class TryLater(TokenRotateError):
    """Nothing is lost and nobody is signed out: the same request works later.

    ``retry_after`` is in seconds and becomes the ``Retry-After`` header.
    """

    status = 503
    code = "try_later"
    for_operators = False

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class ProviderUnavailable(TryLater):
    """The provider does not answer or asks to wait, and the access token has run out."""

    code = "provider_unavailable"

    def __init__(self, provider: str, *, retry_after: float) -> None:
        self.provider = provider
        super().__init__(
            f"The token endpoint of {provider!r} is not available; it is asked again in {retry_after:.1f} s.",
            retry_after=retry_after,
        )


class RotationTimeout(TryLater):
    """Another worker holds the claim and did not finish within ``TOKENROTATE_WAIT_SECONDS``."""

    code = "rotation_timeout"

    def __init__(self, grant_id: str, *, waited: float, retry_after: float) -> None:
        self.grant_id = grant_id
        self.waited = waited
        super().__init__(
            f"The rotation of grant {grant_id} by another worker did not finish within {waited:.1f} s.",
            retry_after=retry_after,
        )


class StoreUnavailable(TryLater):
    """The grant database cannot be reached; the driver's error is the ``__cause__``."""

    code = "store_unavailable"
    for_operators = True

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message, retry_after=retry_after)


class TablesMissing(ConfigurationError):
    """The grant tables do not exist in the database."""

    code = "tables_missing"

    def __init__(self) -> None:
        super().__init__(
            "The tables of Flask-TokenRotate do not exist in this database. "
            "Create them with: flask tokenrotate create-tables"
        )


class UnknownProvider(ConfigurationError):
    """No provider of this name is registered."""

    code = "unknown_provider"

    def __init__(self, name: str, registered: tuple[str, ...]) -> None:
        self.name = name
        known = ", ".join(sorted(registered)) or "none"
        super().__init__(
            f"No provider {name!r} is registered (registered: {known}). "
            f"Register it with rotate.register({name!r}, client_id=…) or in TOKENROTATE_PROVIDERS."
        )


class InvalidTokenResponse(TokenRotateError):
    """A token response handed to ``adopt`` has no usable access token."""

    status = 400
    code = "invalid_token_response"


class GrantUnreadable(TokenRotateError):
    """No configured key opens the stored token set of a grant, or what it opens to is ``malformed``.

    ``sealed_with`` and ``configured`` are key fingerprints: short hashes that name keys without
    revealing them. The row is left as it is.
    """

    code = "grant_unreadable"

    def __init__(
        self, grant_id: str, sealed_with: str, configured: tuple[str, ...], *, malformed: bool = False
    ) -> None:
        self.grant_id = grant_id
        self.sealed_with = sealed_with
        self.configured = configured
        self.malformed = malformed
        if malformed:
            super().__init__(
                f"The token set of grant {grant_id} opens with key {sealed_with}, but was not written by "
                "this version of Flask-TokenRotate: run the version that wrote it, or restore the row. "
                "Signing in again makes a new grant."
            )
            return
        keys = ", ".join(configured)
        cause = (
            "the row was altered or copied from another grant"
            if sealed_with in configured
            else "add the key that it was sealed with to TOKENROTATE_ENCRYPTION_KEYS (or the former "
            "secret key to SECRET_KEY_FALLBACKS)"
        )
        super().__init__(
            f"The token set of grant {grant_id} was sealed with key {sealed_with} and does not open "
            f"(configured keys: {keys}): {cause}."
        )


class NotStorableInSession(TokenRotateError):
    """A session holds something that is not JSON; ``key`` says under which key, never what."""

    code = "not_storable_in_session"

    def __init__(self, key: object, kind: str) -> None:
        self.key = key
        super().__init__(
            f"session[{key!r}] cannot be stored ({kind}). A session takes JSON under keys that are strings: "
            "strings, numbers, True, False, None, lists and dicts of these."
        )


class LedgerConflict(TokenRotateError):
    """The ledger refuses one more redemption of a refresh token: it was, or may have been, spent.

    The protocol never asks for one; a row that was changed by hand or restored alone does. Nothing
    was sent to the provider.
    """

    code = "ledger_conflict"

    def __init__(self, grant_id: str, token_version: int, slot: int) -> None:
        self.grant_id = grant_id
        self.token_version = token_version
        self.slot = slot
        super().__init__(
            f"The ledger has a redemption of token version {token_version} of grant {grant_id} already "
            f"(slot {slot}), so its refresh token is not posted again. See: flask tokenrotate history "
            f"{grant_id}. Signing in again makes a new grant."
        )


class RescueFailed(TokenRotateError):
    """A rescue file cannot be written, read or deleted; ``path`` and ``reason`` say which and why.

    It is logged, never shown to a user: requests go on without the file. A file that cannot be read
    stays where it is.
    """

    code = "rescue_failed"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"The rescue file {path} cannot be used ({reason}). Make room and allow this process to write "
            "there, or set TOKENROTATE_RESCUE_DIR; for another key add it to TOKENROTATE_ENCRYPTION_KEYS. "
            "Then run: flask tokenrotate rescue"
        )
