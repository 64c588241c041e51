"""One redemption in progress, as a future: what those who wait for it see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .outcomes import Overtaken
from .ports import Event, EventName
from .sighting import Sighting
from .tokens import Grant


@dataclass(frozen=True, slots=True)
class Notice:
    """What the observer is notified of once the flight has landed."""

    name: EventName
    grant: Grant
    facts: Mapping[str, Any]


class Flight:
    """One redemption in progress.

    ``claimed_at`` is when its claim was taken, by `Clock.monotonic`; None before. ``overtaken_at`` is when it
    found that another worker had the claim. ``is_probe``: it finds out whether the provider is back. When
    ``landed`` is set, ``result`` is the grant with its new token set, or what a lost claim found, or None
    (the row says what happened); or ``error`` is why there is none of them: one of our errors, or a defect.
    """

    def __init__(self, grant_id: str, landed: Event) -> None:
        self.grant_id = grant_id
        self.landed = landed
        self.claimed_at: float | None = None
        self.overtaken_at: float | None = None
        self.is_probe = False
        self.result: Sighting | Overtaken | None = None
        self.error: Exception | None = None
        self.notices: list[Notice] = []

    def note(self, name: EventName, grant: Grant, facts: Mapping[str, Any]) -> None:
        """Keep a notice until the flight has landed."""
        self.notices.append(Notice(name, grant, facts))
