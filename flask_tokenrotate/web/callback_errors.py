"""Why a callback was not accepted, told apart, each with what the person can do."""

from __future__ import annotations

import re

from ..attempts import AttemptMiss
from ..errors import ProviderUnavailable, SignInFailed, TokenRotateError

_ERROR_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")

_NO_COOKIE = (
    "no_cookie",
    "Your browser did not send the cookie that this sign-in began with. Allow cookies for this site, "
    "do not open the link in another browser, and sign in again.",
)
_OTHER_HOST = (
    "other_host",
    "The sign-in began at another address of this site (such as localhost instead of 127.0.0.1), whose "
    "cookie is not sent here. Open the site at this address and sign in again. For the operator: set "
    "TOKENROTATE_BASE_URL.",
)
_EXPIRED = ("expired", "The sign-in took too long and is no longer valid. Sign in again.")
_ALREADY_USED = (
    "already_used",
    "This sign-in was completed already; the page was probably reloaded. Go back to the site, or sign in "
    "again.",
)
_UNKNOWN_STATE = (
    "unknown_state",
    "This address does not belong to a sign-in that began here. Sign in again.",
)


def mismatch(provider: str, miss: AttemptMiss, *, begun_here: bool) -> SignInFailed:
    """Return the error for a state that brought no attempt.

    ``begun_here`` False: the state was made at another host name, so that a missing cookie is no
    fault of the browser's.
    """
    if miss in ("no_cookie", "other_browser"):
        reason, message = _NO_COOKIE if begun_here else _OTHER_HOST
    elif miss == "expired":
        reason, message = _EXPIRED
    elif miss == "already_used":
        reason, message = _ALREADY_USED
    else:
        reason, message = _UNKNOWN_STATE
    return SignInFailed(provider, reason, message)  # type: ignore[arg-type]


def other_issuer(provider: str) -> SignInFailed:
    """Return the error for an response that another authorization server gave (RFC 9207 section 2.4)."""
    return SignInFailed(
        provider,
        "issuer_mismatch",
        f"This response does not come from {provider!r}, where the sign-in began. Sign in again.",
    )


def malformed(provider: str, part: str) -> SignInFailed:
    """Return the error for an address whose ``part`` no provider sends.

    A parameter must not be there more than once (RFC 6749 section 3.1).
    """
    return SignInFailed(
        provider,
        "malformed",
        f"The {part} of this address is too long, there more than once, or not encoded. Sign in again.",
    )


def denied_or_broken(provider: str, error: str | None) -> TokenRotateError:
    """Return the error for a callback without a code (RFC 6749 section 4.1.2.1).

    The provider's ``error_description`` is not shown: anybody can put words into that address.
    """
    if error == "access_denied":
        return SignInFailed(provider, "denied", f"You did not allow access at {provider!r}.")
    if error in ("temporarily_unavailable", "server_error"):
        return ProviderUnavailable(provider, retry_after=5.0)
    code = error if error is not None and _ERROR_CODE.match(error) else "no error code"
    return SignInFailed(
        provider, "provider_error", f"{provider!r} could not complete the sign-in ({code}). Sign in again."
    )
