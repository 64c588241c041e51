"""Until when a token set may be used, and from when on it is rotated ahead: on this process's own clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .protocol import Policy, margins
from .sighting import Fresh, Origin, Sighting
from .tokens import Grant


class Windows:
    """Applies the providers' policies to token sets. ``policy_for`` returns the policy of a provider."""

    def __init__(self, policy_for: Callable[[str], Policy]) -> None:
        self._policy_for = policy_for

    def policy(self, grant: Grant, min_ttl: float | None) -> Policy:
        """Return the policy for the grant, with a caller's own ``min_ttl`` in seconds."""
        policy = self._policy_for(grant.provider)
        return policy if min_ttl is None else replace(policy, min_ttl=min_ttl)

    def of(self, seen: Sighting, min_ttl: float | None) -> tuple[float, float]:
        """Return, on the monotonic clock, the start of the ahead window and the end of freshness."""
        tokens = seen.grant.tokens
        shortest, ahead = margins(tokens, self.policy(seen.grant, min_ttl))
        until = seen.at + tokens.remaining(seen.grant.seen_at) - shortest
        return until - ahead, until

    def fresh(self, seen: Sighting, origin: Origin, min_ttl: float | None) -> Fresh:
        """Return the token set, to be used as long as it is fresh for ``min_ttl``."""
        return Fresh(seen=seen, origin=origin, until=self.of(seen, min_ttl)[1], min_ttl=min_ttl)

    def to_its_end(self, seen: Sighting, origin: Origin, min_ttl: float | None) -> Fresh:
        """Return a token set that may be used until it expires: nothing fresher is to be had.

        Held to ``min_ttl``, a provider slower than half a token's lifetime would keep its requests
        redeeming for ever, and each use in one request would wait again.
        """
        fresh = self.fresh(seen, origin, min_ttl)
        expires = seen.at + seen.grant.tokens.remaining(seen.grant.seen_at)
        return replace(fresh, until=max(fresh.until, expires))
