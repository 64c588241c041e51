"""What the token endpoint meant: status first, then the body. Pure; never raises for any bytes.

What follows from a verdict is stated in its class (`Consequences`) and nowhere else: a new verdict is a class
here, a member of `Verdict`, and a line in this table. The first matching line is the verdict. *Code* is the
error code in the body, *rules* are the provider's `ResponseRules`.

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
401 or 403, and some with 200. Line 8 does not end the grant: ending one that works costs more
than asking an operator.

The response to an authorization code goes through the same table; there Refused means that the
code is not valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ClassVar, get_args

from .http_response import HttpResponse, NoResponse, retry_after
from .protocol import Policy
from .token_response import ResponseRules, looks_like_html, read_error, read_fields, read_tokens
from .tokens import TokenResponse

NOT_PROCESSED = frozenset({408, 409, 425, 429, 503})
"""Statuses that say that the request was not carried out (409: too many at once, at Supabase)."""

MISCONFIGURED_PAUSE = 30.0
"""Seconds for which a grant is not redeemed after the provider refused this client."""


class Effect(Enum):
    """What a verdict does to the grant's row."""

    SAVE = "the token set is saved"
    END = "the grant is ended"
    PAUSE = "the claim is released; the grant is not redeemed for a while"
    DOUBT = "the claim is released in doubt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Consequences:
    """What follows from a verdict. Everything that depends on a verdict reads it here.

    ``ledger_name`` is the verdict's name in the ledger and in the row's ``failure``; ``meaning`` explains it
    to people. ``spent``: whether the refresh token was spent; None when nobody can know. ``effect`` is what
    happens to the row after a first post, ``effect_of_replay`` after a replay. ``is_outage``: whether it
    counts as a failure of the provider for the breaker. ``asks_operator``: only a change of the configuration
    helps; requests get `ProviderMisconfigured` (502) meanwhile, else `ProviderUnavailable` (503).
    """

    ledger_name: str
    meaning: str
    spent: bool | None
    effect: Effect
    effect_of_replay: Effect | None = None
    is_outage: bool = False
    asks_operator: bool = False

    def on(self, *, is_replay: bool) -> Effect:
        """Return what happens to the row."""
        return self.effect_of_replay or self.effect if is_replay else self.effect


class _Verdict:
    """Base of all verdicts. ``http_status`` is for the ledger, and None where no response came."""

    __slots__ = ()
    consequences: ClassVar[Consequences]
    http_status: int | None = None

    @property
    def code(self) -> str | None:
        """The provider's error code, or a short name of the cause; it is kept on the row for people."""
        return None

    def pause(self, backoff: float, policy: Policy) -> float | None:
        """Return for how many seconds the grant is not redeemed; None for not at all.

        ``backoff`` is what the row's failures so far ask for. Every verdict that leaves the refresh token
        in place pauses, unless it says otherwise: without a pause each request would post it again.
        """
        return backoff


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotated(_Verdict):
    """The provider responded with tokens; the old refresh token must be taken for spent."""

    consequences = Consequences(
        ledger_name="rotated",
        meaning="the provider responded with a new token set",
        spent=True,
        effect=Effect.SAVE,
    )
    response: TokenResponse
    complaints: tuple[str, ...] = ()
    http_status: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused(_Verdict):
    """The provider does not accept the refresh token. ``error`` is the provider's code.

    A refused replay proves only that the token was spent: perhaps by the first post, whose response a
    stopped process may still save.
    """

    consequences = Consequences(
        ledger_name="refused",
        meaning="the provider refused the refresh token",
        spent=True,
        effect=Effect.END,
        effect_of_replay=Effect.DOUBT,
    )
    error: str
    http_status: int | None = field(default=None, compare=False)

    @property
    def code(self) -> str:
        """The provider's code."""
        return self.error


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy(_Verdict):
    """The provider did not process the request; ``retry_after`` in seconds where it said so."""

    consequences = Consequences(
        ledger_name="busy",
        meaning="the provider did not process the request",
        spent=False,
        effect=Effect.PAUSE,
        is_outage=True,
    )
    cause: str
    retry_after: float | None = None
    http_status: int | None = field(default=None, compare=False)

    @property
    def code(self) -> str:
        """The status or code that said so."""
        return self.cause

    def pause(self, backoff: float, policy: Policy) -> float:
        """Wait at least as long as the provider asked for."""
        return max(backoff, self.retry_after or 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class NotSent(_Verdict):
    """The request never left: nothing can have happened at the provider."""

    consequences = Consequences(
        ledger_name="not_sent",
        meaning="the request never left",
        spent=False,
        effect=Effect.PAUSE,
        is_outage=True,
    )
    cause: str

    @property
    def code(self) -> str:
        """The step that failed."""
        return self.cause


@dataclass(frozen=True, kw_only=True, slots=True)
class NotPosted(_Verdict):
    """The holder did not post, because too little of its claim was left."""

    consequences = Consequences(
        ledger_name="not_posted",
        meaning="too little of the claim was left to post",
        spent=False,
        effect=Effect.PAUSE,
    )

    def pause(self, backoff: float, policy: Policy) -> None:
        """Nothing was posted and nothing failed: whoever comes next may try at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown(_Verdict):
    """Nobody can know whether the refresh token was spent."""

    consequences = Consequences(
        ledger_name="unknown",
        meaning="nobody knows whether the refresh token was spent",
        spent=None,
        effect=Effect.DOUBT,
        is_outage=True,
    )
    cause: str
    timed_out: bool = False
    http_status: int | None = field(default=None, compare=False)

    @property
    def code(self) -> str:
        """What was missing."""
        return self.cause

    def pause(self, backoff: float, policy: Policy) -> float:
        """Give the provider time to finish the first post before the one replay."""
        return max(backoff, policy.settle_after_time_out if self.timed_out else policy.settle)


@dataclass(frozen=True, kw_only=True, slots=True)
class Misconfigured(_Verdict):
    """The provider refuses this client, not this grant: only an operator can help; ``cure`` says how."""

    consequences = Consequences(
        ledger_name="misconfigured",
        meaning="the provider refused this client",
        spent=False,
        effect=Effect.PAUSE,
        asks_operator=True,
    )
    error: str
    cure: str
    http_status: int | None = field(default=None, compare=False)

    @property
    def code(self) -> str:
        """The provider's code."""
        return self.error

    def pause(self, backoff: float, policy: Policy) -> float:
        """Wait for an operator rather than for the provider."""
        return max(backoff, MISCONFIGURED_PAUSE)


OnResponse = Rotated | Refused | Busy | Unknown | Misconfigured
"""The verdicts on a response."""

Verdict = OnResponse | NotSent | NotPosted

CONSEQUENCES = {kind.consequences.ledger_name: kind.consequences for kind in get_args(Verdict)}
"""What follows from each verdict, by its name in the ledger."""

_CURES = {
    "invalid_client": "Check client_id, client_secret and client_auth.",
    "unauthorized_client": "Allow this client the authorization_code and refresh_token grants.",
    "unsupported_grant_type": "Check token_endpoint, and that the provider issues refresh tokens.",
    "invalid_scope": "Check scopes: the provider does not give one of them to this client.",
    "invalid_request": (
        "Check client_auth and token_params. If this is the provider's response to an invalid refresh token, "
        "add the code to refused_errors; if it means that it is busy, to busy_errors."
    ),
}
_OTHER_CODE = (
    "Look the code up in the provider's documentation. "
    "If it means an invalid refresh token, add it to refused_errors."
)


def verdict(outcome: HttpResponse | NoResponse, rules: ResponseRules) -> Verdict:
    """Return what ``outcome`` means under ``rules``; see the module's table."""
    if isinstance(outcome, NoResponse):
        if not outcome.sent:
            return NotSent(cause=outcome.cause)
        return Unknown(cause=outcome.cause, timed_out=outcome.timed_out)
    return replace(_judged(outcome, rules), http_status=outcome.status)


def _judged(outcome: HttpResponse, rules: ResponseRules) -> OnResponse:
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


def _by_code(error: str, headers: Mapping[str, str], rules: ResponseRules) -> OnResponse:
    if error in rules.busy_errors:
        return Busy(cause=error, retry_after=retry_after(headers))
    if error in rules.refused_errors:
        return Refused(error=error)
    return Misconfigured(error=error, cure=_CURES.get(error, _OTHER_CODE))


def _without_code(outcome: HttpResponse, content_type: str, rules: ResponseRules) -> OnResponse:
    status, is_html = outcome.status, looks_like_html(content_type, outcome.body)
    if 200 <= status < 300 or not 300 <= status < 500:
        return Unknown(cause="unreadable_response", timed_out=outcome.timed_out)
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
        return "Check token_endpoint: it responds with a redirect, and a token request never follows one."
    if is_html:
        return "Check token_endpoint, and whether a firewall or proxy responds in the provider's place."
    return "Check token_endpoint: it does not respond as a token endpoint does."
