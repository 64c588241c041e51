"""Why a figure falls short, where that is known."""

from __future__ import annotations

from collections.abc import Sequence

from .report import Report

REASONS = {
    "fresh token, cache hit": (
        "Valgrind counts about 76,000 instructions for it (`python -m tests.proofs instructions`). 24,000 "
        "of them decode the grant's id in the signed cookie, which becomes long enough to be compressed; "
        "sessions on the server have none of these. The rest is in about 50 Python calls: Flask calls the "
        "`before_request` hook, and then session, memo, process cache and clock are read once for the "
        "decorator, and memo and clock once for `current_token`."
    ),
    "fresh token, cache miss": (
        "The row is read once, by primary key, in one round trip. That read alone, by psycopg with "
        "nothing around it, takes two thirds to three quarters of the target, and with SQLAlchemy Core "
        "around it more than the target (both have a row in the table). The rest of a miss decrypts "
        "the token set, decides what to do, and makes sure that one thread of the process does it."
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
