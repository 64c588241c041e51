"""What happens to a soak at random: each disruption lasts for a moment and is over."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from flask_tokenrotate import TokenRotate
from flask_tokenrotate.testing import FakeProvider

from .worker import RESPONSE_SECONDS, TIMING


@dataclass(kw_only=True)
class Disruptions:
    """What may happen to a soak; ``seen`` counts what did."""

    seed: int
    provider: FakeProvider
    workers: list[subprocess.Popen[bytes]]
    respawn: Callable[[], subprocess.Popen[bytes]]
    cut_off: Callable[[], None]
    rotate: TokenRotate
    users: dict[str, str]
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def one(self) -> None:
        """Let one disruption happen."""
        disruption = self._random.choice(
            [
                self.kill,
                self.stall,
                self.cut,
                self.busy,
                self.slow,
                self.hang,
                self.drop,
                self.reset,
                self.sign_out,
                self.sign_out,
                self.sign_in,
                self.sign_in,
            ]
        )
        self.seen[disruption.__name__] += 1
        disruption()

    def kill(self) -> None:
        """Kill a worker, but for the first one, by which memory is measured, and start another one."""
        number = self._random.randrange(1, len(self.workers))
        self.workers[number].kill()
        self.workers[number].wait()
        self.workers[number] = self.respawn()

    def stall(self) -> None:
        """Stop a worker for longer than a claim stands and settles."""
        pid = self._random.choice(self.workers).pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(TIMING["claim"] + TIMING["settle"] + 0.3)
        os.kill(pid, signal.SIGCONT)

    def cut(self) -> None:
        """Cut all connections to the database, from the server's side."""
        self.cut_off()

    def busy(self) -> None:
        """Let the provider answer 503 for a moment."""
        self._turned(0.2, outage=True, retry_after=1)
        self.provider.turn(outage=False)

    def slow(self) -> None:
        """Let the provider respond after a claim's first deadline: its live holder renews it."""
        self._turned(0.3, response_seconds=TIMING["claim"] + 0.3)
        self.provider.turn(response_seconds=0.0)

    def hang(self) -> None:
        """Let a few requests hang for longer than a live holder waits."""
        self._turned(0.05, after_seconds=RESPONSE_SECONDS + 0.3)
        self.provider.turn(after_seconds=0.0)

    def drop(self) -> None:
        """Let the provider carry a request out and drop its answer."""
        self.provider.turn(drop_next=1)

    def reset(self) -> None:
        """Let the provider reset a connection before it has looked at the request."""
        self.provider.turn(reset_next=1)

    def sign_out(self) -> None:
        """Sign a user out, and in again."""
        user = self._random.choice(list(self.users))
        self.rotate.sign_out_grant(self.users[user])
        self._sign_in(user)

    def sign_in(self) -> None:
        """Sign a user in who is signed in already, from another browser: the older grant goes on living."""
        self._sign_in(self._random.choice(list(self.users)))

    def _sign_in(self, user: str) -> None:
        self.users[user] = self.rotate.adopt("fake", self.provider.mint(user=user), user_id=user).id

    def _turned(self, seconds: float, **knobs: object) -> None:
        self.provider.turn(**knobs)
        time.sleep(seconds)
