"""Requests of one browser that overlap: an application with views that wait, and threads to call them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cachelib import SimpleCache
from flask import Flask, current_app, jsonify, request, session
from flask.testing import FlaskClient
from flask_session import Session

PATIENCE = 30


class Gate:
    """Where a request stops after it has read its session: `held` until `open`."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._go = threading.Event()

    def stop(self) -> None:
        """Stop here (called in the request)."""
        self._arrived.set()
        assert self._go.wait(PATIENCE)

    def wait_for_request(self) -> None:
        """Wait until the request stands at the gate."""
        assert self._arrived.wait(PATIENCE)

    def open(self) -> None:
        """Let the request go on."""
        self._go.set()


class Views:
    """The views of the application under test. ``stop`` is called by those that are asked to ``?stop``."""

    def __init__(self, app: Flask) -> None:
        self.stop: Callable[[], Any] = lambda: None
        app.add_url_rule("/read", "read", self.read)
        app.add_url_rule("/set/<key>/<value>", "set", self.set, methods=["POST"])
        app.add_url_rule("/delete/<key>", "delete", self.delete, methods=["POST"])
        app.add_url_rule("/append/<value>", "append", self.append, methods=["POST"])
        app.add_url_rule("/mistake", "mistake", self.mistake, methods=["POST"])
        app.add_url_rule("/plain", "plain", lambda: "")
        app.add_url_rule("/clear", "clear", self.clear, methods=["POST"])
        app.add_url_rule("/regenerate", "regenerate", self.regenerate, methods=["POST"])

    def _begin(self) -> None:
        session.get("anything")
        if "stop" in request.args:
            self.stop()

    def read(self) -> Any:
        self._begin()
        return jsonify(dict(session))

    def set(self, key: str, value: str) -> str:
        self._begin()
        session[key] = value
        return ""

    def delete(self, key: str) -> str:
        self._begin()
        session.pop(key, None)
        return ""

    def append(self, value: str) -> str:
        self._begin()
        session["list"].append(value)
        return ""

    def mistake(self) -> str:
        session["fine"], session["mistake"] = 1, object()
        return ""

    def clear(self) -> str:
        self._begin()
        session.clear()
        return ""

    def regenerate(self) -> str:
        self._begin()
        current_app.session_interface.regenerate(session)  # type: ignore[attr-defined]
        return ""


def plain_flask_session() -> Flask:
    """Return the control: an application with Flask-Session and nothing else."""
    app = Flask("plain")
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
    Session(app)
    return app


def twin(client: FlaskClient) -> FlaskClient:
    """Return a second tab of the client's browser: its cookie as it is now."""
    other = client.application.test_client()
    cookie = client.get_cookie("session")
    assert cookie is not None
    other.set_cookie("session", cookie.value)
    return other


def contents(client: FlaskClient) -> dict[str, Any]:
    """Return what the client's session holds."""
    found: dict[str, Any] = client.get("/read").get_json()
    found.pop("_permanent", None)
    return found


def both(views: Views, *calls: Callable[[], Any]) -> None:
    """Make the calls at once: each has read its session before any goes on."""
    views.stop = threading.Barrier(len(calls), timeout=PATIENCE).wait
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)


@contextmanager
def under_way(views: Views, call: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run the block while ``call`` stands between reading and writing; then the list holds its answer."""
    gate = Gate()
    views.stop = gate.stop
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    try:
        gate.wait_for_request()
        yield answers
    finally:
        gate.open()
        thread.join(PATIENCE)
