"""What one request has already got: the same token for all its hooks, views and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .rotator import Rotator
    from .sighting import Fresh


class RequestMemo:
    """The token sets that one request uses, by grant id.

    Keyed by the grant and by nothing else: keyed by the provider, a sign-in in the middle of a
    request would go on with the token of the user before.
    """

    __slots__ = ("_fresh",)

    def __init__(self) -> None:
        self._fresh: dict[str, Fresh] = {}

    def fresh(self, rotator: Rotator, grant_id: str, *, min_ttl: float | None = None) -> Fresh:
        """Return the request's token set of the grant, checked against the clock again.

        A stream may outlive the token that its request began with; it then gets the next one, and
        never an older one than it has used already.
        """
        held = self._fresh.get(grant_id)
        if held is not None and rotator.is_fresh(held, min_ttl=min_ttl):
            return held
        at_least = 0 if held is None else held.token_version
        found = rotator.fresh(grant_id, min_ttl=min_ttl, at_least=at_least)
        self._fresh[grant_id] = found
        return found

    def refused(self, rotator: Rotator, fresh: Fresh, *, min_ttl: float | None = None) -> Fresh:
        """Return what to use after a resource server refused ``fresh``; see `Rotator.refused`."""
        found = rotator.refused(fresh, min_ttl=min_ttl)
        self._fresh[found.grant.id] = found
        return found

    def forget(self) -> None:
        """Forget everything: the request signed in or out."""
        self._fresh.clear()

    def rotations_ahead(self) -> list[Fresh]:
        """Return what this request shall rotate once its response was sent."""
        return [fresh for fresh in self._fresh.values() if fresh.rotate_ahead]
