"""What happens to a soak at random: each disruption lasts for a moment and is over."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

from flask_tokenrotate import TokenRotate
from flask_tokenrotate.testing import FakeProvider

from .worker import TIMING


class Disruptions:
    """What may happen to a soak; ``seen`` counts what did."""

    def __init__(
        self,
        *,
        seed: int,
        provider: FakeProvider,
        workers: list[subprocess.Popen[bytes]],
        respawn: Callable[[], subprocess.Popen[bytes]],
        cut_off: Callable[[], None],
        rotate: TokenRotate,
        users: dict[str, str],
    ) -> None:
        self._random = random.Random(seed)
        self._provider = provider
        self._workers = workers
        self._respawn = respawn
        self._cut_off = cut_off
        self._rotate = rotate
        self._users = users
        self.seen: Counter[str] = Counter()

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
        number = self._random.randrange(1, len(self._workers))
        self._workers[number].kill()
        self._workers[number].wait()
        self._workers[number] = self._respawn()

    def stall(self) -> None:
        """Stop a worker for longer than a claim stands and settles."""
        pid = self._random.choice(self._workers).pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(TIMING["claim"] + TIMING["settle"] + 0.3)
        os.kill(pid, signal.SIGCONT)

    def cut(self) -> None:
        """Cut all connections to the database, from the server's side."""
        self._cut_off()

    def busy(self) -> None:
        """Let the provider answer 503 for a moment."""
        self._turned(0.2, outage=True, retry_after=1)
        self._provider.turn(outage=False)

    def slow(self) -> None:
        """Let the provider take its time."""
        self._turned(0.5, answer_seconds=0.3)
        self._provider.turn(answer_seconds=0.0)

    def hang(self) -> None:
        """Let a few requests hang for longer than a call may take."""
        self._turned(0.05, after_seconds=TIMING["redeem"] + 0.3)
        self._provider.turn(after_seconds=0.0)

    def drop(self) -> None:
        """Let the provider carry a request out and drop its answer."""
        self._provider.turn(drop_next=1)

    def reset(self) -> None:
        """Let the provider reset a connection before it has looked at the request."""
        self._provider.turn(reset_next=1)

    def sign_out(self) -> None:
        """Sign a user out, and in again."""
        user = self._random.choice(list(self._users))
        self._rotate.sign_out_grant(self._users[user])
        self._sign_in(user)

    def sign_in(self) -> None:
        """Sign a user in who is signed in already, from another browser: the older grant goes on living."""
        self._sign_in(self._random.choice(list(self._users)))

    def _sign_in(self, user: str) -> None:
        self._users[user] = self._rotate.adopt("fake", self._provider.mint(user=user), user_id=user).id

    def _turned(self, seconds: float, **knobs: object) -> None:
        self._provider.turn(**knobs)
        time.sleep(seconds)
