"""The token sets that this process has decrypted, so that a row that is read again is not decrypted again.

A token set never changes: a grant that rotates gets another token version. So nothing here goes stale; the
row decides whether it may be used.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from .tokens import TokenSet


class TokenSets:
    """Token sets by grant id, at most ``entries``; least recently used go first.

    ``state`` is what the row has to say for its token set to be this one: the token version and its owner. A
    row that was given to another user is decrypted again, which fails.
    """

    def __init__(self, *, entries: int) -> None:
        self._limit = entries
        self._kept: OrderedDict[str, tuple[Hashable, TokenSet]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, grant_id: str, state: Hashable) -> TokenSet | None:
        """Return the token set in that state, None where it is not cached."""
        with self._lock:
            kept, tokens = self._kept.get(grant_id, (None, None))
            if kept != state:
                return None
            self._kept.move_to_end(grant_id)
            return tokens

    def put(self, grant_id: str, state: Hashable, tokens: TokenSet) -> None:
        """Cache a token set in place of the grant's former one."""
        with self._lock:
            self._kept[grant_id] = (state, tokens)
            self._kept.move_to_end(grant_id)
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)

    def reset(self) -> None:
        """Drop everything, in a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._kept = OrderedDict()
