"""Why a figure falls short, where that is known."""

from __future__ import annotations

from collections.abc import Sequence

from .report import Report

REASONS = {
    "fresh token, cache hit": (
        "A hit takes 3 to 5 µs in a loop of its own. In a request its code and data come from memory "
        "that the rest of the request has pushed out of the processor's nearest caches. `python -m "
        "tests.proofs instructions` counts 55,000 instructions: 10,000 for the grant's id in the "
        "signed cookie (next to none with sessions on the server), 6,000 in which Flask calls a "
        "`before_request` hook, 8,000 in that hook, and the rest in some 25 Python calls that look at "
        "session, memo, process cache and clock, once for the decorator and once for `current_token`."
    ),
    "fresh token, cache miss": (
        "The row is read once, by primary key, in one round trip. That read alone, by psycopg with "
        "nothing around it, takes two thirds to three quarters of the target, and with SQLAlchemy Core "
        "around it more than the target (both have a row in the table). What remains of a miss opens "
        "the sealed token set, decides, and keeps one thread of the process at it."
    ),
}
"""By how the figure's name begins."""

VARIES = (
    "Client, provider, database and web server share two processors here; between runs the figure varies by "
    "more than it falls short."
)


def shortfalls(reports: Sequence[Report]) -> str:
    """Return what falls short, each with its reason."""
    bounds = [bound for report in reports for bound in report.bounds if not bound.holds]
    return "\n".join(f"- **{bound.figure}**: {reason_for(bound.figure)}" for bound in bounds) or "Nothing."


def reason_for(figure: str) -> str:
    """Return why the figure falls short."""
    return next((reason for name, reason in REASONS.items() if figure.startswith(name)), VARIES)
