"""What there is to the table, and what each cell has to show."""

from __future__ import annotations

from dataclasses import dataclass

STEPS = {
    "before_claim": "before the claim",
    "claim_committed": "claim committed",
    "request_written": "request at the provider",
    "answer_read": "response read",
    "save_committed": "save committed",
    "response_sent": "response sent",
}
"""The steps of a redemption at which a worker is halted."""

FAULTS = {
    "kill": "its worker is killed (SIGKILL)",
    "stall": "its worker is stopped past the claim's deadline and then continues (SIGSTOP, SIGCONT)",
    "database": "the database is stopped for 2.5 s and started again",
    "cut_before": "the connection is cut at the next COMMIT, which the server never sees",
    "cut_after": "the connection is cut at the next COMMIT, which the server has executed",
    "slow": "the provider responds after the claim's first deadline",
    "hang": "the provider hangs for longer than a live holder waits",
    "drop": "the provider processes the request and drops the response",
    "busy": "the provider responds 503 with Retry-After",
    "dns": "the provider's name does not resolve",
}
"""The faults, each of which comes at that moment."""

LATE_STEPS = ("save_committed", "response_sent")
PROVIDER_STEPS = ("before_claim", "claim_committed", "request_written")
"""The steps from which the provider is still to answer."""


@dataclass(frozen=True)
class Expected:
    """What a cell has to show; as in `cell.Seen`, and ``replayed`` by the provider's log.

    An answer may be one of two, as in ``503 or 200``, where either is right.
    """

    first: str
    other: str
    next: str = "-"
    well: bool = True
    replayed: bool = False


def expected(engine: str, step: str, fault: str) -> Expected:
    """Return what is right at a provider with a grace period, whose profile says ``replay``."""
    match fault:
        case "kill":
            first = "200" if step == "response_sent" else "0"
            return Expected(first, "200", replayed=step in ("request_written", "answer_read"))
        case "stall":
            return Expected("200", "200", replayed=step in ("request_written", "answer_read"))
        case "database":
            # SQLite's file is locked for writers only: who finds a fresh token in it is served.
            other = "200" if engine == "sqlite" and step in LATE_STEPS else "503"
            return Expected("503" if step == "before_claim" else "200", other)
        case "cut_before" | "cut_after":
            return Expected("200", "200", next="200" if step in LATE_STEPS else "-")
        case "slow":
            # The live holder renews its claim: all that a slow provider costs is the waiting.
            return Expected("200", "200", next="-" if step in PROVIDER_STEPS else "200")
        case "dns" if step == "request_written":
            return Expected("200", "200", next="503")
    replayed = fault in ("hang", "drop")
    if step not in PROVIDER_STEPS:
        return Expected("200", "200", next="503", replayed=replayed)
    # The one replay comes when the doubt has settled. The holder reports it, so its request gets 503 at once;
    # another worker's does if it looks at the row before that; otherwise it is the one that replays.
    return Expected("503", "503 or 200" if replayed else "503", replayed=replayed)


LIMITS = {
    ("kill", "claim_committed"): Expected("0", "401 outcome_unknown", well=False),
    ("kill", "request_written"): Expected("0", "401 outcome_unknown", well=False),
    ("kill", "answer_read"): Expected("0", "401 outcome_unknown", well=False),
    ("stall", "claim_committed"): Expected("200", "401 outcome_unknown"),
    ("stall", "request_written"): Expected("200", "401 outcome_unknown"),
    ("stall", "answer_read"): Expected("200", "401 outcome_unknown"),
    ("drop", "request_written"): Expected("401 outcome_unknown", "401 outcome_unknown", well=False),
    ("slow", "request_written"): Expected("200", "200"),
    ("hang", "request_written"): Expected("401 outcome_unknown", "401 outcome_unknown", well=False),
}
"""Where a refresh token may be spent and nobody can know, and the profile says ``reauthorize``."""
