"""The token sets that one request uses: the same for all its hooks, views and templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fresh_tokens import FreshTokens
    from .refused_tokens import RefusedTokens
    from .sighting import Fresh, Sighting


class RequestMemo:
    """The token sets that one request uses, by grant id.

    Keyed by the grant and by nothing else: keyed by the provider, a sign-in in the middle of a
    request would go on with the token of the user before.
    """

    __slots__ = ("_fresh",)

    def __init__(self) -> None:
        self._fresh: dict[str, Fresh] = {}

    def fresh(
        self,
        tokens: FreshTokens,
        grant_id: str,
        *,
        min_ttl: float | None = None,
        read: Callable[[str], Sighting | None] | None = None,
        here: bool = False,
    ) -> Fresh:
        """Return the request's token set of the grant, checked against the clock again.

        A stream may outlive the token that its request began with; it then gets the next one, and
        never an older one than it has used already. ``read`` returns the row as the caller has read it; it is
        called only when the memo has nothing. ``here`` is that of `FreshTokens.get`.
        """
        held = self._fresh.get(grant_id)
        if held is not None and tokens.is_fresh(held, min_ttl=min_ttl):
            return held
        at_least = 0 if held is None else held.token_version
        seen = None if read is None else read(grant_id)
        found = tokens.get(grant_id, min_ttl=min_ttl, at_least=at_least, seen=seen, here=here)
        self._fresh[grant_id] = found
        return found

    def refused(
        self, refused: RefusedTokens, fresh: Fresh, *, min_ttl: float | None = None, here: bool = False
    ) -> Fresh:
        """Return what to use after a resource server refused ``fresh``; see `RefusedTokens.replace`."""
        found = refused.replace(fresh, min_ttl=min_ttl, here=here)
        self._fresh[found.grant.id] = found
        return found

    def forget(self) -> None:
        """Forget everything: the request signed in or out."""
        self._fresh.clear()

    def rotations_ahead(self) -> list[Fresh]:
        """Return what this request has to rotate once its response was sent, where no thread can do it."""
        return [fresh for fresh in self._fresh.values() if fresh.rotate_ahead]
