"""What the token endpoint meant (the parser is written next)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .tokens import TokenAnswer


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerRules:
    """What a provider's profile says about reading its token endpoint."""

    refused_errors: frozenset[str] = frozenset({"invalid_grant"})
    busy_errors: frozenset[str] = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
    server_error_means: Literal["busy", "unknown"] = "busy"
    scope_separators: str = " "
    default_lifetime: float | None = None
    expires_in_unit: Literal["seconds", "milliseconds"] = "seconds"


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAnswer:
    """One HTTP answer as it came: nothing parsed. ``complete`` is False when the body was cut or too long."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    complete: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class NoAnswer:
    """The exchange failed. ``sent`` False: not a byte of the request left this process."""

    sent: bool
    cause: str
    timed_out: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotated:
    """The provider answered with tokens; the old refresh token must be taken for spent."""

    answer: TokenAnswer
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """The refresh token is dead. ``error`` is the provider's code."""

    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy:
    """The provider did not process the request; ``retry_after`` in seconds where it said so."""

    cause: str
    retry_after: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NotSent:
    """The request never left: nothing can have happened at the provider."""

    cause: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """Nobody can know whether the refresh token was spent."""

    cause: str
    timed_out: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Misconfigured:
    """The provider refuses this client, not this grant: only an operator can help; ``cure`` says how."""

    error: str
    cure: str


Verdict = Rotated | Refused | Busy | NotSent | Unknown | Misconfigured
