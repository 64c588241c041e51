"""FakeProvider: a strict authorization server in a thread of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypedDict

from ...rotation.tokens import Secret
from .app import App, addresses
from .browser import sign_in
from .client import LOOPBACK, Client
from .gates import Gate, Point
from .journal import LogEntry
from .ledger import new_token
from .listener import Listener
from .state import ProviderState


class Minted(TypedDict):
    """A token response. ``expires_in`` is in seconds."""

    access_token: str
    token_type: str
    expires_in: float
    refresh_token: str
    scope: str


class FakeProvider(ProviderState):
    """A strict OAuth 2 authorization server with faults on demand, for tests and demos.

    ::

        with FakeProvider(lifetime=2) as provider:
            rotate.register("fake", **provider.registration())

    A refresh token can be used once, and its reuse revokes the whole family (RFC 9700 section 4.14.2). PKCE
    with S256 is required. A code can be used once, within 60 s. Everything is in memory. Anybody who can load
    the consent page can sign in as anybody, so the server listens on the loopback interface only.

    ``port`` 0 chooses a free port, which is kept when the server is stopped and started again. Without
    ``redirect_uris``, every plain http URL of the loopback interface is accepted. ``scopes`` are all scopes
    that can be requested. ``now`` is the clock for the expiry of tokens, in seconds. All other keywords are
    knobs: see `Knobs`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        client_id: str = "demo-client",
        client_secret: str = "demo-client-secret",
        redirect_uris: Sequence[str] = (),
        scopes: Sequence[str] = ("profile", "email"),
        now: Callable[[], float] = time.time,
        **knobs: object,
    ) -> None:
        if host not in LOOPBACK:
            raise ValueError(
                f"FakeProvider does not listen on {host!r}, because anybody can sign in. Use {LOOPBACK}."
            )
        client = Client(
            client_id=client_id,
            client_secret=Secret(client_secret),
            redirect_uris=tuple(redirect_uris),
            scopes=tuple(scopes),
        )
        super().__init__(client, now, **knobs)
        self._listener = Listener(host, port, App(self))

    def start(self) -> FakeProvider:
        """Start the server; return self. Raises `OSError` if the port is in use."""
        self._stopping.clear()
        self._listener.start()
        return self

    def stop(self) -> None:
        """Stop the server. Requests that wait at a gate or in a delay continue at once."""
        self._stopping.set()
        self.gates.open_all()
        self._listener.stop()

    def __enter__(self) -> FakeProvider:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # For the client

    @property
    def url(self) -> str:
        """The base URL, which is also the issuer. Raises `RuntimeError` before the first start."""
        return self._listener.url

    def registration(self, **over: Any) -> dict[str, Any]:
        """Return the keywords for ``rotate.register(name, …)``; ``over`` replaces some of them."""
        return {
            "client_id": self.client.client_id,
            "client_secret": self.client.client_secret.reveal(),
            **addresses(self.url),
            "scopes": list(self.client.scopes),
            "client_auth": self.client_auth,
            **over,
        }

    def sign_in(self, authorization_url: str, *, user: str = "alice", allow: bool = True) -> str:
        """Sign in as a browser and its user do, and return the URL of the callback: see `browser.sign_in`."""
        return sign_in(authorization_url, user=user, allow=allow)

    # Tokens without a browser

    def mint(
        self, user: str = "alice", *, scopes: Sequence[str] | None = None, expires_in: float | None = None
    ) -> Minted:
        """Start a family and return its first token response, as the token endpoint would send it.

        ``scopes`` defaults to all scopes, ``expires_in`` (seconds) to the knob ``lifetime``.
        """
        granted = self.client.scopes if scopes is None else tuple(scopes)
        seconds = self.lifetime if expires_in is None else expires_in
        access_token, refresh_token = new_token("access"), new_token("refresh")
        with self.ledger.lock:
            family = self.ledger.start_family(user, granted)
            self.ledger.issue(family, access_token=access_token, refresh_token=refresh_token, seconds=seconds)
        return {
            "access_token": access_token.reveal(),
            "token_type": "Bearer",
            "expires_in": seconds,
            "refresh_token": refresh_token.reveal(),
            "scope": " ".join(granted),
        }

    def live_tokens(self, user: str | None = None) -> int:
        """Return how many access and refresh tokens are valid, of all users or of one."""
        with self.ledger.lock:
            return self.ledger.live_tokens(user)

    # Faults and races

    def hold(self, point: Point) -> AbstractContextManager[Gate]:
        """Hold token requests at ``"received"`` (not yet processed) or ``"processed"`` (before the response).

        ``with provider.hold("received") as gate:`` … ``gate.wait_for(2)`` … ``gate.open()``.
        """
        return self.gates.hold(point)

    # The log

    @property
    def log(self) -> list[LogEntry]:
        """The requests to the token and revocation endpoints, in the order of processing."""
        return self.journal.entries()

    def clear_log(self) -> None:
        """Delete the log, and with it all counts."""
        self.journal.clear()

    def presentations(self) -> Counter[str]:
        """Return how often each refresh token was presented, by `Secret.fingerprint`."""
        return self.journal.presentations()

    def double_presentations(self) -> dict[str, int]:
        """Return the refresh tokens that were presented more than once, and how often."""
        return self.journal.double_presentations()

    def redemptions(self) -> int:
        """Return how many refresh tokens were presented, counting each presentation."""
        return self.presentations().total()

    def outcomes(self) -> Counter[str]:
        """Return how many log entries there are of each outcome."""
        return self.journal.outcomes()

    @property
    def families_revoked(self) -> int:
        """How many families were revoked because a spent token was used again."""
        return self.journal.families_revoked()
