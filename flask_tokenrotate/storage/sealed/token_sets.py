"""A token set as the JSON object that is sealed: all of it but the times, which a row has as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...rotation.tokens import Secret, TokenSet
from .content import text, text_or_none, texts_or_none

TOKEN_FACTS = ("access_token", "refresh_token", "token_type", "scopes", "id_token")


def written_tokens(tokens: TokenSet) -> dict[str, Any]:
    """Return the part of ``tokens`` that is only written sealed; its keys are `TOKEN_FACTS`."""
    return {
        "access_token": tokens.access_token.reveal(),
        "refresh_token": _revealed(tokens.refresh_token),
        "token_type": tokens.token_type,
        "scopes": None if tokens.scopes is None else sorted(tokens.scopes),
        "id_token": _revealed(tokens.id_token),
    }


def read_tokens(
    facts: Mapping[str, Any],
    *,
    expires_at: float | None,
    lifetime: float | None,
    refresh_expires_at: float | None,
) -> TokenSet:
    """Return the token set that `written_tokens` and the times came from. Raises `Malformed`."""
    return TokenSet(
        access_token=Secret(text(facts["access_token"])),
        refresh_token=_secret(text_or_none(facts["refresh_token"])),
        token_type=text(facts["token_type"]),
        scopes=texts_or_none(facts["scopes"]),
        expires_at=expires_at,
        lifetime=lifetime,
        refresh_expires_at=refresh_expires_at,
        id_token=_secret(text_or_none(facts["id_token"])),
    )


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _secret(value: str | None) -> Secret | None:
    return None if value is None else Secret(value)
