"""Sends requests to an application as several browsers do that act at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.cookies import SimpleCookie
from typing import Any, TypeVar
from urllib.parse import urlsplit

from requests.structures import CaseInsensitiveDict

T = TypeVar("T")

REQUEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request got. ``status`` 0: the connection broke."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] = field(default_factory=dict)


def ask(url: str, method: str = "GET", *, cookie: str = "", body: object = None) -> Answer:
    """Send one request on a connection of its own. An answer that is not JSON has an empty ``json``."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=REQUEST_SECONDS)
    headers = {"Accept": "application/json", "Content-Type": "application/json", "Cookie": cookie}
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, HTTPException):
        return Answer(0)
    finally:
        connection.close()
    facts = json.loads(text) if "json" in answer.headers.get("Content-Type", "") else {}
    # Some servers send all names in lower case.
    return Answer(answer.status, CaseInsensitiveDict(answer.headers), facts)


@dataclass(slots=True)
class Visitor:
    """A browser at the application, signed in with ``cookie``."""

    url: str
    cookie: str = ""

    def get(self, path: str) -> Answer:
        """Send a GET."""
        return ask(self.url + path, cookie=self.cookie)

    def post(self, path: str, body: object = None) -> Answer:
        """Send a POST and keep the session cookie that comes with the answer."""
        answer = ask(self.url + path, "POST", cookie=self.cookie, body=body)
        session = SimpleCookie(answer.headers.get("Set-Cookie", "")).get("session")
        if session is not None:
            self.cookie = f"session={session.value}"
        return answer

    def sign_in(self, tokens: Mapping[str, Any], provider: str = "fake") -> str:
        """Sign in with a token response of the provider and return the grant's id."""
        answer = self.post(f"/adopt/{provider}", tokens)
        assert answer.status == 200, answer
        return str(answer.json["grant"])


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all calls at the same moment, each in a thread, and return their results."""
    barrier = threading.Barrier(len(calls))

    def make(call: Callable[[], T]) -> T:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


def wave(visitors: Sequence[Visitor], requests: int, path: str = "/token/fake") -> list[Answer]:
    """Send ``requests`` requests of each visitor, all at once."""
    return at_once(
        [lambda visitor=visitor: visitor.get(path) for visitor in visitors for _ in range(requests)]
    )


def eventually(happened: Callable[[], T], *, seconds: float = 15.0) -> T:
    """Return the first true value of ``happened``; look often. Raises `TimeoutError`."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        value = happened()
        if value:
            return value
        time.sleep(0.01)
    raise TimeoutError(f"it has not happened in {seconds:g} s")
