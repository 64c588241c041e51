"""Reads token responses that were obtained elsewhere: by another library, or a migration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import InvalidTokenResponse
from .token_response import ResponseRules, read_tokens
from .tokens import TokenResponse


def adopted(token_response: Mapping[str, Any], rules: ResponseRules, *, wall_clock: float) -> TokenResponse:
    """Return the tokens in a stored token response, such as a requests-oauthlib token.

    A response that was stored a while ago says when it expires: ``expires_at`` (seconds since the
    epoch, by the clock of who stored it; ``wall_clock`` is now) counts more than ``expires_in``, and
    both may be in the past, unlike in a new response. Raises `InvalidTokenResponse`
    where there is no usable access token.
    """
    read = read_tokens(token_response, rules) if isinstance(token_response, Mapping) else None
    if read is None:
        raise InvalidTokenResponse(
            "The token response has no usable access_token; pass the token endpoint's response as a mapping."
        )
    response, _ = read
    expires_at, expires_in = _number(token_response, "expires_at"), _number(token_response, "expires_in")
    if expires_at is not None:
        return replace(response, expires_in=expires_at - wall_clock)
    if expires_in is not None and expires_in <= 0:
        return replace(response, expires_in=expires_in)
    return response


def _number(token_response: Mapping[str, Any], name: str) -> float | None:
    value = token_response.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e11
    return float(value) if is_number and value is not None else None
