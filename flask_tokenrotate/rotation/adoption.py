"""Reads token responses that were obtained elsewhere: by another library, or a migration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import InvalidTokenResponse
from .tokens import TokenAnswer
from .verdict import AnswerRules, HttpAnswer, Rotated, verdict


def adopted(token_response: Mapping[str, Any], rules: AnswerRules, *, wall_clock: float) -> TokenAnswer:
    """Return the tokens in a stored token response, such as a requests-oauthlib token.

    A response that was stored a while ago says when it expires: ``expires_at`` (seconds since the
    epoch, by the clock of who stored it; ``wall_clock`` is now) counts more than ``expires_in``, and
    both may lie in the past, unlike in an answer that has just come. Raises `InvalidTokenResponse`
    where there is no usable access token.
    """
    try:
        body = json.dumps(dict(token_response)).encode()
    except (TypeError, ValueError):
        raise InvalidTokenResponse("The token response must be a mapping of plain JSON values.") from None
    outcome = verdict(HttpAnswer(status=200, headers={"Content-Type": "application/json"}, body=body), rules)
    if not isinstance(outcome, Rotated):
        raise InvalidTokenResponse(
            "The token response has no usable access_token; pass the token endpoint's answer as a mapping."
        )
    expires_at, expires_in = token_response.get("expires_at"), token_response.get("expires_in")
    if _is_number(expires_at):
        return replace(outcome.answer, expires_in=float(expires_at) - wall_clock)
    if _is_number(expires_in) and expires_in <= 0:
        return replace(outcome.answer, expires_in=float(expires_in))
    return outcome.answer


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e11
