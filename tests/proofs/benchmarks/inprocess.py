"""Requests to an application in this process, by its WSGI callable: no server and no client in the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder


class Caller:
    """Sends the same GET to an application again and again."""

    def __init__(self, app: Flask, path: str, cookie: str) -> None:
        self._call: Callable[..., Any] = app.wsgi_app
        self._environ = EnvironBuilder(path, headers={"Cookie": cookie}).get_environ()
        self.request()

    def request(self) -> None:
        """Send one request, read the answer to its end and close it, as a server does."""
        statuses: list[str] = []
        environ = self._environ.copy()
        answer = self._call(environ, lambda status, headers, exc_info=None: statuses.append(status))
        for _ in answer:
            pass
        if hasattr(answer, "close"):
            answer.close()
        if statuses != ["200 OK"]:
            raise RuntimeError(f"{environ['PATH_INFO']} answered {statuses}")

    def microseconds(self, requests: int) -> float:
        """Return what one of ``requests`` requests took, in the mean."""
        start = time.perf_counter()
        for _ in range(requests):
            self.request()
        return (time.perf_counter() - start) / requests * 1e6


def signed_in_cookie(app: Flask, tokens: dict[str, Any]) -> str:
    """Sign in with ``tokens`` and return the session cookie as a header."""
    client = app.test_client()
    answer = client.post("/sign-in", json=tokens)
    assert answer.status_code == 200, answer.text
    name = app.session_interface.get_cookie_name(app)
    cookie = client.get_cookie(name)
    assert cookie is not None
    return f"{name}={cookie.value}"
