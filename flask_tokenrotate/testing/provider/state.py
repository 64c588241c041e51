"""The state of a FakeProvider: its knobs, client, tokens, log and gates."""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from ...rotation.tokens import Secret
from .client import Client
from .gates import Gates
from .journal import Journal
from .knobs import Knobs
from .ledger import Ledger


class ProviderState(Knobs, ABC):
    """The state of one authorization server, which its endpoints share. `FakeProvider` serves it."""

    def __init__(self, client: Client, now: Callable[[], float], **knobs: object) -> None:
        super().__init__(**knobs)
        self.client = client
        self.ledger = Ledger(now)
        self.journal = Journal()
        self.gates = Gates()
        self.ticket_key = Secret(secrets.token_hex(32))
        self._stopping = threading.Event()

    @property
    @abstractmethod
    def url(self) -> str:
        """The base URL, which is also the issuer. Raises `RuntimeError` before the first start."""

    def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until the server is stopped."""
        self._stopping.wait(seconds)

    def expire_access_tokens(self, user: str | None = None) -> int:
        """End all living access tokens, or one user's; return how many. Refresh tokens stay as they are."""
        with self.ledger.lock:
            return self.ledger.expire(user=user)

    def apply(self, changes: Mapping[str, object]) -> None:
        """Apply what another process has sent to ``/control``: knobs by name, and three more keys.

        They are ``expire_access_tokens`` true, with ``user`` for one user only, and ``clear_log`` true.
        Raises `ValueError` and changes nothing if one of them cannot work.
        """
        changes = dict(changes)
        user = changes.pop("user", None)
        expire, clear = changes.pop("expire_access_tokens", False), changes.pop("clear_log", False)
        if not isinstance(expire, bool) or not isinstance(clear, bool):
            raise ValueError("expire_access_tokens and clear_log are true or false.")
        if user is not None and not isinstance(user, str):
            raise ValueError("user is a string, or null for all users.")
        self.turn(**changes)
        if expire:
            self.expire_access_tokens(user)
        if clear:
            self.journal.clear()
