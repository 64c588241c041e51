"""Reads what a token endpoint sent: fields from bytes, tokens from fields. Pure; never raises.

`read_fields` and `read_tokens` serve the verdict and `adopt` alike. Both are lenient, because a
refresh token was spent for the response: whatever is odd about the rest, a usable access token is
kept and the oddity becomes a complaint (a fixed sentence that never quotes the response).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from .tokens import Secret, TokenResponse, parse_scopes

MAX_LIFETIME = 10 * 365 * 86400.0
"""Seconds; a lifetime beyond this is cut to it, so that dates stay within every database's range."""

MAX_FORM_FIELDS = 100

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE]\+?[0-9]+)?")
_WORDS = re.compile(r"[A-Za-z]{1,24}([_.-][A-Za-z]{1,24}){0,7}")
_REFRESH_LIFETIMES = ("refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseRules:
    """What a provider's profile says about reading its token endpoint.

    ``refused_errors``: codes that mean an invalid refresh token (RFC 6749 section 5.2 knows only
    ``invalid_grant``). ``busy_errors``: codes that mean "not processed, try again".
    ``server_error_means``: whether a 5xx other than 503 left the refresh token unspent.
    ``empty_refusal``: what a 400 without a readable error code means. Its default ``"unknown"``
    costs at most one more post before the user is asked to sign in, and never ends the grant.
    ``default_lifetime``: seconds, for responses without a usable ``expires_in``; None for unknown.
    """

    refused_errors: frozenset[str] = frozenset({"invalid_grant"})
    busy_errors: frozenset[str] = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
    server_error_means: Literal["busy", "unknown"] = "busy"
    empty_refusal: Literal["unknown", "refused"] = "unknown"
    scope_separators: str = " "
    default_lifetime: float | None = None
    expires_in_unit: Literal["seconds", "milliseconds"] = "seconds"


def read_fields(content_type: str, body: bytes, *, complete: bool = True) -> Mapping[str, object] | None:
    """Return the fields of a JSON object or a form; None when the body is neither, or cut.

    What the body looks like counts more than what ``content_type`` claims.
    """
    text = body.decode("utf-8-sig", "replace").strip()
    if text.startswith("{"):
        return _json_object(text)
    # A form that was cut still parses, with the end of its last token missing; a JSON object that
    # parses is whole.
    if not complete or looks_like_html(content_type, body):
        return None
    if "form-urlencoded" in content_type.lower() or "access_token=" in text or "error=" in text:
        return _form(text)
    return None


def looks_like_html(content_type: str, body: bytes) -> bool:
    """Return whether the body is a page for people, as firewalls and maintenance pages send."""
    return body.lstrip().startswith(b"<") or ("html" in content_type.lower() and bool(body.strip()))


def read_error(fields: Mapping[str, object] | None, known: frozenset[str]) -> str | None:
    """Return the error code in ``fields``, None when there is none.

    The code comes from outside and ends up in logs, so only a code in ``known`` or one made of
    plain words is passed on; everything else becomes ``"unreadable"``.
    """
    if fields is None:
        return None
    error = fields.get("error")
    if isinstance(error, Mapping):
        error = error.get("code")
    if not (error := error or fields.get("error_code")):
        return None
    if isinstance(error, str) and (error in known or _WORDS.fullmatch(error)):
        return error
    return "unreadable"


def read_tokens(
    fields: Mapping[str, object], rules: ResponseRules
) -> tuple[TokenResponse, tuple[str, ...]] | None:
    """Return the tokens in ``fields`` with complaints; None when there is no usable access token."""
    access_token = _token(fields.get("access_token"))
    if access_token is None:
        return None
    complaints: list[str] = []
    if not all(" " <= character <= "~" for character in access_token.reveal()):
        complaints.append("access_token has characters outside RFC 6749 appendix A.12")
    tokens: dict[str, Secret | None] = {}
    for name in ("refresh_token", "id_token"):
        tokens[name] = _token(fields.get(name))
        if tokens[name] is None and fields.get(name) not in (None, ""):
            complaints.append(f"{name} is not a usable string")
    secrets = {token.reveal() for token in (access_token, *tokens.values()) if token is not None}
    response = TokenResponse(
        access_token=access_token,
        refresh_token=tokens["refresh_token"],
        id_token=tokens["id_token"],
        token_type=_token_type(fields.get("token_type"), secrets, complaints),
        scopes=_scopes(fields.get("scope"), rules, secrets, complaints),
        expires_in=_expires_in(fields, rules, complaints),
        refresh_expires_in=_refresh_expires_in(fields, rules),
    )
    return response, tuple(complaints)


def _json_object(text: str) -> Mapping[str, object] | None:
    try:
        # Python refuses to read integers of thousands of digits, which would cost the tokens
        # beside one; as floats they become infinite and are dropped alone.
        value = json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _form(text: str) -> Mapping[str, object] | None:
    try:
        return dict(parse_qsl(text, max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        return None


def _token(value: object) -> Secret | None:
    """Return a token that can be sent again, else None."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        value.encode()  # JSON can carry lone surrogates, which no request can
    except UnicodeEncodeError:
        return None
    return Secret(value)


def _token_type(value: object, secrets: set[str], complaints: list[str]) -> str:
    if value is None or (isinstance(value, str) and value.lower() in ("bearer", "")):
        return "Bearer"
    complaints.append("token_type is not Bearer")
    if isinstance(value, str) and value not in secrets and _WORDS.fullmatch(value):
        return value
    return "unreadable"


def _scopes(
    value: object, rules: ResponseRules, secrets: set[str], complaints: list[str]
) -> frozenset[str] | None:
    if value is None:
        return None
    scopes = parse_scopes(value, rules.scope_separators)
    if scopes is None or scopes & secrets:
        complaints.append("scope is unreadable")
        return None
    return scopes


def _expires_in(fields: Mapping[str, object], rules: ResponseRules, complaints: list[str]) -> float | None:
    if "expires_in" not in fields:
        return rules.default_lifetime
    seconds = _seconds(fields["expires_in"], rules)
    if seconds is None:
        complaints.append("expires_in is not a usable number of seconds")
        return rules.default_lifetime
    return seconds


def _refresh_expires_in(fields: Mapping[str, object], rules: ResponseRules) -> float | None:
    """Return the refresh token's lifetime; Keycloak says 0 for one that does not expire."""
    return next((_seconds(fields[name], rules) for name in _REFRESH_LIFETIMES if name in fields), None)


def _seconds(value: object, rules: ResponseRules) -> float | None:
    """Return a positive, finite number of seconds no larger than `MAX_LIFETIME`, else None."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    if rules.expires_in_unit == "milliseconds":
        seconds /= 1000
    return min(seconds, MAX_LIFETIME) if math.isfinite(seconds) and seconds > 0 else None
