"""The exceptions of the extension, grouped by what the caller can do.

========================  ======  =====================================================================
Class                     Status  What to do
========================  ======  =====================================================================
`TokenRotateError`        500     the base of all others: catch it to catch everything
`SignInRequired`          401     send the user to sign in
`ScopesNotGranted`        403     work without the scopes; the user was already asked for them
`SignInFailed`            400     start signing in again; `reason` names the case
`CrossSiteRequest`        403     send the request from a page of the application itself
`TryLater`                503     the base of the next three: try again after `retry_after` seconds
`ProviderUnavailable`     503     try again later: the provider does not respond, or asks to wait
`RotationTimeout`         503     try again later: a rotation is still in progress
`StoreUnavailable`        503     try again later: the database cannot be reached
`ProviderMisconfigured`   502     correct the client's registration at the provider
`ConfigurationError`      500     correct the configuration; the message names the key
`TablesMissing`           500     run ``flask tokenrotate create-tables``
`UnknownProvider`         500     register the provider, or correct its name
`InvalidTokenResponse`    400     pass `TokenRotate.adopt` a response with an access token
`GrantUnreadable`         500     add the missing encryption key, or restore the row
`NotStorableInSession`    500     store a JSON value under the session key that is named
`LedgerConflict`          500     find out what changed the row; a second redemption was prevented
`RescueFailed`            500     make the rescue file's folder writable, then save the rescue files
========================  ======  =====================================================================

No message, attribute or ``repr`` contains a token, code, state, secret or key.
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
    """The base class of all errors of this extension.

    ``status`` is the HTTP status of the default error response. ``code`` is a stable name for programs; it is
    in the problem document. ``for_operators`` is True if the message says what to change on the server: the
    message is then logged, and visitors see a general text.
    """

    status = 500
    code = "token_rotate_error"
    for_operators = True

    def __copy__(self) -> Self:
        """Return an equal error: threads that share one failure each raise their own."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        twin.__cause__ = self.__cause__
        return twin


# The user can do something


class SignInRequired(TokenRotateError):
    """There is no usable grant: the user has to sign in at the provider.

    ``reason`` is ``"no_grant"``, ``"no_refresh_token"``, ``"missing_scopes"``, ``"outcome_unknown"``, or
    why the grant ended: ``"signed_out"``, ``"refused"``, ``"replaced"``, ``"other_subject"``.
    ``scopes`` are the missing ones. ``provider`` is None if no grant has the given id. ``login_url`` is set
    if the error is handled in a request.
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
    """The user was asked for ``scopes``, and the provider did not grant them."""

    status = 403
    code = "scopes_not_granted"
    for_operators = False

    def __init__(self, provider: str, scopes: frozenset[str]) -> None:
        self.provider = provider
        self.scopes = scopes
        super().__init__(
            f"{provider!r} did not grant the scopes {', '.join(sorted(scopes))}. "
            "To be asked for them again, sign out and sign in."
        )


class SignInFailed(TokenRotateError):
    """A sign-in could not be completed. ``reason`` is the case; the message says what to do."""

    status = 400
    code = "sign_in_failed"
    for_operators = False

    def __init__(self, provider: str, reason: SignInFailure, message: str) -> None:
        self.provider = provider
        self.reason: SignInFailure = reason
        super().__init__(message)


class CrossSiteRequest(TokenRotateError):
    """A page of another site sent a request that only pages of this application may send."""

    status = 403
    code = "cross_site_request"

    def __init__(self) -> None:
        super().__init__(
            "A page of another site sent this request. Sign out from a page of the application. If a proxy "
            "changes the Host header, set TOKENROTATE_BASE_URL."
        )


# The same request works later


class TryLater(TokenRotateError):
    """The same request works later. Nothing is lost, and nobody is signed out.

    ``retry_after`` is in seconds and becomes the ``Retry-After`` header.
    """

    status = 503
    code = "try_later"
    for_operators = False

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class ProviderUnavailable(TryLater):
    """The provider does not respond or asks to wait, and the access token has expired."""

    code = "provider_unavailable"

    def __init__(self, provider: str, *, retry_after: float) -> None:
        self.provider = provider
        super().__init__(
            f"The token endpoint of {provider!r} is not available. Try again in {retry_after:.1f} s.",
            retry_after=retry_after,
        )


class RotationTimeout(TryLater):
    """A rotation did not finish within ``TOKENROTATE_WAIT_SECONDS``, and the access token has expired.

    ``waited`` is in seconds.
    """

    code = "rotation_timeout"

    def __init__(self, grant_id: str, *, waited: float, retry_after: float) -> None:
        self.grant_id = grant_id
        self.waited = waited
        super().__init__(
            f"The rotation of grant {grant_id} did not finish within {waited:.1f} s. "
            f"Try again in {retry_after:.1f} s.",
            retry_after=retry_after,
        )


class StoreUnavailable(TryLater):
    """The grant database cannot be reached. The driver's error is the ``__cause__``."""

    code = "store_unavailable"
    for_operators = True

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=1.0)


# An operator has to change something


class ProviderMisconfigured(TokenRotateError):
    """The provider refuses this client: a wrong secret, grant type or endpoint. The grant stays alive.

    ``error`` is the provider's own code, such as ``"invalid_client"``. ``retry_after`` is the time in
    seconds until the provider is asked again.
    """

    status = 502
    code = "provider_misconfigured"

    def __init__(self, provider: str, error: str, retry_after: float = 0.0) -> None:
        self.provider = provider
        self.error = error
        self.retry_after = retry_after
        super().__init__(
            f"The token endpoint of {provider!r} refuses this client ({error}). Check client_id, "
            f"client_secret, client_auth and token_endpoint of the provider {provider!r}."
        )


class ConfigurationError(TokenRotateError):
    """The configuration cannot work. The message has the key and says what to change."""

    code = "misconfigured"


class TablesMissing(ConfigurationError):
    """The database does not have the extension's tables."""

    code = "tables_missing"

    def __init__(self) -> None:
        super().__init__(
            "The tables of Flask-TokenRotate do not exist in this database. "
            "Create them with: flask tokenrotate create-tables"
        )


class UnknownProvider(ConfigurationError):
    """No provider ``name`` is registered."""

    code = "unknown_provider"

    def __init__(self, name: str, registered: tuple[str, ...]) -> None:
        self.name = name
        known = ", ".join(sorted(registered)) or "none"
        super().__init__(
            f"No provider {name!r} is registered (registered: {known}). "
            f"Register it with rotate.register({name!r}, client_id=…) or in TOKENROTATE_PROVIDERS."
        )


class InvalidTokenResponse(TokenRotateError):
    """A token response that was given to `TokenRotate.adopt` has no usable access token."""

    status = 400
    code = "invalid_token_response"


class GrantUnreadable(TokenRotateError):
    """The stored token set of a grant cannot be decrypted, or is ``malformed`` once decrypted.

    ``sealed_with`` is the fingerprint of the key that encrypted it, ``configured`` are those of the
    configured keys. A fingerprint is a short hash that does not reveal the key. The row is not changed.
    """

    code = "grant_unreadable"

    def __init__(
        self, grant_id: str, sealed_with: str, configured: tuple[str, ...], *, malformed: bool = False
    ) -> None:
        self.grant_id = grant_id
        self.sealed_with = sealed_with
        self.configured = configured
        self.malformed = malformed
        problem = f"The token set of grant {grant_id} was encrypted with key {sealed_with}"
        if malformed:
            problem += " but was not written by this version of Flask-TokenRotate"
            cure = "Run the version that wrote it, or restore the row. Signing in again makes a new grant."
        elif sealed_with in configured:
            problem += ", which does not decrypt it: the row was altered or copied from another grant"
            cure = "Restore the row. Signing in again makes a new grant."
        else:
            problem += f", which is not among the configured keys ({', '.join(configured)})"
            cure = "Add it to TOKENROTATE_ENCRYPTION_KEYS, or the former secret key to SECRET_KEY_FALLBACKS."
        super().__init__(f"{problem}. {cure}")


class NotStorableInSession(TokenRotateError):
    """A session has a value that is not JSON. ``key`` is its key. The value is not shown."""

    code = "not_storable_in_session"

    def __init__(self, key: object, kind: str) -> None:
        self.key = key
        super().__init__(
            f"session[{key!r}] cannot be stored ({kind}). Keys must be strings, and values JSON: strings, "
            "numbers, True, False, None, lists and dicts of these."
        )


class LedgerConflict(TokenRotateError):
    """A refresh token that was, or may have been, spent was about to be redeemed again.

    The ledger prevented it, and nothing was sent to the provider. It happens only if a row was changed by
    hand or restored without the other rows.
    """

    code = "ledger_conflict"

    def __init__(self, grant_id: str, token_version: int, slot: int) -> None:
        self.grant_id = grant_id
        self.token_version = token_version
        self.slot = slot
        super().__init__(
            f"The ledger already has a redemption of token version {token_version} of grant {grant_id} "
            f"(slot {slot}), so its refresh token was not sent again. See: flask tokenrotate history "
            f"{grant_id}. Signing in again makes a new grant."
        )


class RescueFailed(TokenRotateError):
    """The rescue file ``path`` cannot be written, read or deleted, because of ``reason``.

    The error is logged and never shown to a user: requests continue without the file. A file that cannot be
    read is not deleted.
    """

    code = "rescue_failed"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"The rescue file {path} cannot be used ({reason}). Free some space and let this process write "
            "there, or set TOKENROTATE_RESCUE_DIR. If its key is missing, add the key to "
            "TOKENROTATE_ENCRYPTION_KEYS. Then run: flask tokenrotate rescue"
        )
