"""The errors of a sign-in that cannot be completed, each with what the user can do."""

from __future__ import annotations

import re

from ..attempts import AttemptMiss
from ..errors import ProviderMisconfigured, ProviderUnavailable, SignInFailed, SignInFailure, TokenRotateError
from ..rotation.verdict import Busy, Effect, Verdict

_ERROR_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")

_MISSES: dict[str, tuple[SignInFailure, str]] = {
    "no_cookie": (
        "no_cookie",
        "Your browser did not send the cookie of this sign-in. Allow cookies for this site, stay in one "
        "browser, and sign in again.",
    ),
    "other_host": (
        "other_host",
        "The sign-in began at another host name of this site (such as localhost instead of 127.0.0.1), whose "
        "cookie is not sent here. Visit the site at this host name and sign in again. For the operator: set "
        "TOKENROTATE_BASE_URL.",
    ),
    "expired": ("expired", "The sign-in took too long and is no longer valid. Sign in again."),
    "already_used": (
        "already_used",
        "This sign-in has already been completed. The page was probably reloaded. Go back to the site, or "
        "sign in again.",
    ),
    "unknown_state": (
        "unknown_state",
        "This URL does not belong to a sign-in that began here. Sign in again.",
    ),
}


def attempt_not_found(provider: str, miss: AttemptMiss, *, from_this_host: bool) -> SignInFailed:
    """Return the error for a state without a usable attempt.

    With ``from_this_host`` False the state was made at another host name, so the cookie is missing because
    of the host and not because of the browser.
    """
    case: str = miss
    if miss in ("no_cookie", "other_browser"):
        case = "no_cookie" if from_this_host else "other_host"
    return SignInFailed(provider, *_MISSES[case])


def wrong_issuer(provider: str) -> SignInFailed:
    """Return the error for the response of another authorization server (RFC 9207 section 2.4)."""
    return SignInFailed(
        provider,
        "issuer_mismatch",
        f"This response does not come from {provider!r}, where the sign-in began. Sign in again.",
    )


def malformed(provider: str, part: str) -> SignInFailed:
    """Return the error for a callback whose ``part`` no provider sends.

    A parameter must not occur more than once (RFC 6749 section 3.1).
    """
    return SignInFailed(
        provider,
        "malformed",
        f"The {part} of this URL is too long, occurs more than once, or is not encoded. Sign in again.",
    )


def provider_error(provider: str, error: str | None) -> TokenRotateError:
    """Return the error for a callback without a code (RFC 6749 section 4.1.2.1).

    The ``error_description`` is not shown: anybody can write text into that URL.
    """
    if error == "access_denied":
        return SignInFailed(provider, "denied", f"You did not allow access at {provider!r}.")
    if error in ("temporarily_unavailable", "server_error"):
        return ProviderUnavailable(provider, retry_after=5.0)
    code = error if error is not None and _ERROR_CODE.match(error) else "no error code"
    return SignInFailed(
        provider, "provider_error", f"{provider!r} could not complete the sign-in ({code}). Sign in again."
    )


def exchange_error(provider: str, verdict: Verdict) -> TokenRotateError:
    """Return the error for a code that was not exchanged for tokens; the verdict's `Consequences` say why."""
    follows = verdict.consequences
    code = verdict.code or follows.ledger_name
    if follows.asks_operator:
        return ProviderMisconfigured(provider, code)
    if follows.effect is Effect.END:
        return SignInFailed(
            provider, "exchange_failed", f"{provider!r} did not accept the sign-in ({code}). Try again."
        )
    retry_after = verdict.retry_after if isinstance(verdict, Busy) else None
    return ProviderUnavailable(provider, retry_after=retry_after or 1.0)
