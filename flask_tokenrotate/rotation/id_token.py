"""Reads ID tokens: the claims, and whether two are of one user. Pure; never raises."""

from __future__ import annotations

import base64
import json
from typing import Any

from .tokens import Secret


def read_claims(id_token: Secret) -> dict[str, Any] | None:
    """Return the claims of an ID token, None when they cannot be read.

    The signature is not looked at: it came from the token endpoint itself, over TLS (OpenID Connect
    Core section 3.1.3.7, point 6).
    """
    try:
        payload = id_token.reveal().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, IndexError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def is_another_user(before: Secret | None, now: Secret | None) -> bool:
    """Return whether a rotation's ID token names another user than the one of the sign-in.

    OpenID Connect Core section 12.2 wants the same ``sub``. Where one of the two is absent or cannot
    be read nothing is known, and a grant is not ended for that.
    """
    if before is None or now is None:
        return False
    old, new = read_claims(before), read_claims(now)
    return bool(old and new and "sub" in old and "sub" in new and old["sub"] != new["sub"])
