"""Steady traffic of many sessions with short-lived tokens, and what became of each request."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.servers.visitors import Answer, Visitor, eventually

PAGE = "/token/fake"
THREADS = 8


@dataclass
class Load:
    """The sessions, spread over ``urls`` as a load balancer would, and the answers."""

    urls: Sequence[str]
    visitors: list[Visitor]
    statuses: Counter[int] = field(default_factory=Counter)
    retried: int = 0
    last_failure: float = 0.0

    def run(self, seconds: float, fault: Callable[[], None] = lambda: None) -> None:
        """Send requests for so long; ``fault`` comes when a third of the time is over."""
        give_up_at = time.monotonic() + seconds
        shares = [self.visitors[number::THREADS] for number in range(THREADS)]
        threads = [
            threading.Thread(target=self._visit, args=(share, give_up_at)) for share in shares if share
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 3)
        fault()
        for thread in threads:
            thread.join()

    def _visit(self, visitors: Sequence[Visitor], until: float) -> None:
        while time.monotonic() < until:
            for visitor in visitors:
                # Two tabs at once: the requests of one session have to meet.
                tabs = [threading.Thread(target=self._get, args=(visitor,)) for _ in range(2)]
                for tab in tabs:
                    tab.start()
                for tab in tabs:
                    tab.join()

    def _get(self, visitor: Visitor) -> None:
        answer = self.get(visitor)
        self.statuses[answer.status] += 1
        if answer.status != 200:
            self.last_failure = time.monotonic()

    def get(self, visitor: Visitor) -> Answer:
        """Ask the visitor's own place; where that fails, once another one."""
        answer = visitor.get(PAGE)
        if answer.status in (0, 502, 503) and len(self.urls) > 1:
            self.retried += 1
            other = self.urls[(self.urls.index(visitor.url) + 1) % len(self.urls)]
            answer = Visitor(other, visitor.cookie).get(PAGE)
        return answer

    def lost(self, *, seconds: float = 20.0) -> int:
        """Return how many sessions are not served any more, once everybody had time to recover."""

        def is_served(visitor: Visitor) -> bool:
            try:
                return bool(eventually(lambda: self.get(visitor).status == 200, seconds=seconds))
            except TimeoutError:
                return False

        return sum(not is_served(visitor) for visitor in self.visitors)
