"""What the token endpoint meant: status first, then the body. Pure; never raises for any bytes.

The first matching line is the verdict. *Code* is the error code in the body, *rules* are the
provider's `ResponseRules`.

====  ========================================================  =================================
Line  Outcome                                                   Verdict
====  ========================================================  =================================
 1    no response, nothing was sent                               NotSent
 2    no response, the request had left                           Unknown
 3    408, 409, 425, 429, 503                                   Busy, with ``Retry-After``
 4    another 5xx                                               Busy or Unknown, as the rules say
 5    2xx with a usable access token                            Rotated, oddities as complaints
 6    code among the rules' busy errors                         Busy
 7    code among the rules' refused errors                      Refused
 8    any other code                                            Misconfigured(code)
 9    2xx, or a status that HTTP does not define                Unknown
10    400 without a code that is not an HTML page               Unknown or Refused, as the rules say
11    the rest: 3xx, 401, 403, 404, HTML pages, …               Misconfigured("http_<status>")
====  ========================================================  =================================

A code of lines 6 to 8 counts under any status but those above it: some providers refuse with
401 or 403, and some with 200. Line 8 keeps the grant alive, for ending a living grant costs more
than asking an operator.

The response to an authorization code goes through the same table; there Refused means that the
code is dead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime

from .token_response import ResponseRules, looks_like_html, read_error, read_fields, read_tokens
from .tokens import TokenResponse

MAX_RETRY_AFTER = 3600.0
"""Seconds; a longer ``Retry-After`` is cut to it: one call an hour is bearable for any provider."""

NOT_PROCESSED = frozenset({408, 409, 425, 429, 503})
"""Statuses that say that the request was not carried out (409: too many at once, at Supabase)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpResponse:
    """One HTTP answer as it came: nothing parsed.

    ``complete`` is False when the body was cut or too long, ``timed_out`` True when the deadline cut it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    complete: bool = True
    timed_out: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class NoResponse:
    """The exchange failed. ``sent`` False: not a byte of the request left this process."""

    sent: bool
    cause: str
    timed_out: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotated:
    """The provider answered with tokens; the old refresh token must be taken for spent."""

    response: TokenResponse
    complaints: tuple[str, ...] = ()
    http_status: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """The refresh token is dead. ``error`` is the provider's code."""

    error: str
    http_status: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy:
    """The provider did not process the request; ``retry_after`` in seconds where it said so."""

    cause: str
    retry_after: float | None = None
    http_status: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class NotSent:
    """The request never left: nothing can have happened at the provider."""

    cause: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """Nobody can know whether the refresh token was spent."""

    cause: str
    timed_out: bool = False
    http_status: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Misconfigured:
    """The provider refuses this client, not this grant: only an operator can help; ``cure`` says how."""

    error: str
    cure: str
    http_status: int | None = field(default=None, compare=False)


Answered = Rotated | Refused | Busy | Unknown | Misconfigured
"""The verdicts on an response; ``http_status`` is for the ledger, and None where no response came."""

Verdict = Answered | NotSent

_CURES = {
    "invalid_client": "Check client_id, client_secret and client_auth.",
    "unauthorized_client": "Allow this client the authorization_code and refresh_token grants.",
    "unsupported_grant_type": "Check token_endpoint, and that the provider issues refresh tokens.",
    "invalid_scope": "Check scopes: the provider does not give one of them to this client.",
    "invalid_request": (
        "Check client_auth and token_params. If the provider answers so to a dead refresh token, "
        "add the code to refused_errors; if it means that it is busy, to busy_errors."
    ),
}
_OTHER_CODE = (
    "Look the code up in the provider's documentation. "
    "If it means a dead refresh token, add it to refused_errors."
)


def verdict(outcome: HttpResponse | NoResponse, rules: ResponseRules) -> Verdict:
    """Return what ``outcome`` means under ``rules``; see the module's table."""
    if isinstance(outcome, NoResponse):
        if not outcome.sent:
            return NotSent(cause=outcome.cause)
        return Unknown(cause=outcome.cause, timed_out=outcome.timed_out)
    return replace(_judged(outcome, rules), http_status=outcome.status)


def _judged(outcome: HttpResponse, rules: ResponseRules) -> Answered:
    headers = {name.lower(): value for name, value in outcome.headers.items()}
    failed = _server_failure(outcome.status, headers, rules)
    if failed is not None:
        return failed
    content_type = headers.get("content-type", "")
    fields = read_fields(content_type, outcome.body, complete=outcome.complete)
    error = read_error(fields, rules.refused_errors | rules.busy_errors)
    if 200 <= outcome.status < 300 and fields is not None and (read := read_tokens(fields, rules)):
        response, complaints = read
        return Rotated(response=response, complaints=(*complaints, *_about_the_rest(outcome, error)))
    if error is not None:
        return _by_code(error, headers, rules)
    return _without_code(outcome, content_type, rules)


def _server_failure(status: int, headers: Mapping[str, str], rules: ResponseRules) -> Busy | Unknown | None:
    # The body is not looked at: a proxy may put anything under its own 503, a token included.
    if status in NOT_PROCESSED or (500 <= status < 600 and rules.server_error_means == "busy"):
        return Busy(cause=f"http_{status}", retry_after=retry_after(headers))
    return Unknown(cause=f"http_{status}") if 500 <= status < 600 else None


def _about_the_rest(outcome: HttpResponse, error: str | None) -> list[str]:
    complaints = [] if outcome.complete else ["the body was cut after the tokens"]
    if error is not None:
        complaints.append("an error code came with the tokens")
    return complaints


def _by_code(error: str, headers: Mapping[str, str], rules: ResponseRules) -> Answered:
    if error in rules.busy_errors:
        return Busy(cause=error, retry_after=retry_after(headers))
    if error in rules.refused_errors:
        return Refused(error=error)
    return Misconfigured(error=error, cure=_CURES.get(error, _OTHER_CODE))


def _without_code(outcome: HttpResponse, content_type: str, rules: ResponseRules) -> Answered:
    status, is_html = outcome.status, looks_like_html(content_type, outcome.body)
    if 200 <= status < 300 or not 300 <= status < 500:
        return Unknown(cause="unreadable_answer", timed_out=outcome.timed_out)
    if status == 400 and not is_html:
        return _empty_refusal(outcome, rules)
    if status == 401 and not is_html:
        return Misconfigured(error="http_401", cure=_CURES["invalid_client"])
    return Misconfigured(error=f"http_{status}", cure=_cure_by_status(status, is_html))


def _empty_refusal(outcome: HttpResponse, rules: ResponseRules) -> Refused | Unknown:
    if rules.empty_refusal == "refused" and outcome.complete:
        return Refused(error="http_400")
    return Unknown(cause="http_400", timed_out=outcome.timed_out)


def _cure_by_status(status: int, is_html: bool) -> str:
    if 300 <= status < 400:
        return "Check token_endpoint: it answers with a redirect, and a token request never follows one."
    if is_html:
        return "Check token_endpoint, and whether a firewall or proxy answers in the provider's place."
    return "Check token_endpoint: it does not answer as a token endpoint does."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in ``retry-after`` (lower-case names), None when there is no usable value.

    A date (RFC 9110 section 10.2.3) counts from the response's own ``date``, so that the provider's
    clock is compared with itself.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), MAX_RETRY_AFTER)
    until, now = _date(value), _date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER)


def _date(value: str) -> datetime | None:
    """Return the aware time of an HTTP date, None for anything else."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo is not None else None
