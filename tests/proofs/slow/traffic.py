"""Sends requests for some time, and measures each of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.servers.visitors import Answer, Visitor

PAUSE_SECONDS = 0.5
"""Between a response and the next request of the same client."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was sent (`time.monotonic`), the seconds until its response, and that."""

    at: float
    seconds: float
    answer: Answer


@dataclass
class Samples:
    """Requests of one kind."""

    all: list[Sample] = field(default_factory=list)

    def since(self, moment: float) -> Samples:
        """Return those that were sent after a moment."""
        return Samples([sample for sample in self.all if sample.at >= moment])

    @property
    def statuses(self) -> dict[int, int]:
        """How many responses there were of each status."""
        return dict(sorted(Counter(sample.answer.status for sample in self.all).items()))

    @property
    def longest(self) -> float:
        """The longest wait, in seconds."""
        return max((sample.seconds for sample in self.all), default=0.0)

    def percentile(self, share: float) -> float:
        """Return the seconds within which that share of the requests had its response."""
        ordered = sorted(sample.seconds for sample in self.all)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def without_retry_after(self) -> int:
        """How many 503 do not say when to come again."""
        return sum(
            sample.answer.status == 503 and int(sample.answer.headers.get("Retry-After", 0)) <= 0
            for sample in self.all
        )


def measured(send: Callable[[], Answer], samples: Samples) -> Answer:
    """Send a request and note how long it took."""
    at = time.monotonic()
    answer = send()
    samples.all.append(Sample(at, time.monotonic() - at, answer))
    return answer


@contextmanager
def clients(
    visitors: Iterable[Visitor], path: str, samples: Samples, *, pause: float = PAUSE_SECONDS
) -> Iterator[None]:
    """Send requests of each visitor, one after the other, for the time of the block."""
    ends = threading.Event()

    def go_on(visitor: Visitor) -> None:
        while not ends.is_set():
            measured(lambda: visitor.get(path), samples)
            ends.wait(pause)

    threads = [threading.Thread(target=go_on, args=[visitor]) for visitor in visitors]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ends.set()
        for thread in threads:
            thread.join()
