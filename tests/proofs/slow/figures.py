"""What a scenario has shown, and what of it must not be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flask_tokenrotate.config import Settings
from flask_tokenrotate.testing import FakeProvider

from .traffic import Samples

SHORT_SECONDS = 1.0
LONGEST_WAIT = Settings().wait_seconds + SHORT_SECONDS


@dataclass
class Figures:
    """What a scenario has shown. ``problems``: what must not be, in words."""

    scenario: str
    sessions: int
    requests: int = 0
    statuses: Mapping[int, int] = field(default_factory=dict)
    longest_wait: float = 0.0
    redemptions: int = 0
    twice: int = 0
    families_revoked: int = 0
    more: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        """Note the problem unless what was promised holds."""
        if not holds:
            self.problems.append(problem)

    def count(self, samples: Samples, provider: FakeProvider) -> None:
        """Note the requests, and what the provider's own log says."""
        self.requests, self.statuses = len(samples.all), samples.statuses
        self.longest_wait = round(samples.longest, 1)
        self.redemptions = provider.redemptions()
        self.twice = len(provider.double_presentations())
        self.families_revoked = provider.families_revoked
        self.expect(set(samples.statuses) <= {200, 503}, "a request got neither 200 nor 503")
        self.expect(samples.without_retry_after == 0, "a 503 came without Retry-After")
        self.expect(samples.longest <= LONGEST_WAIT, f"a request waited longer than {LONGEST_WAIT:g} s")

    def expect_nothing_lost(self) -> None:
        """Each session was redeemed once, and lives."""
        self.expect(self.twice == 0, "a refresh token was presented twice")
        self.expect(self.families_revoked == 0, "a session was lost")
        self.expect(self.redemptions == self.sessions, "not one redemption for each session")
