"""The application that the tests serve. All settings come from the environment.

It reports what no visitor of a real application could see: which process responded, and
whether a database connection has crossed a fork.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import redis
from flask import Blueprint, Flask, Response, current_app, request
from flask_session import Session
from sqlalchemy import event
from sqlalchemy.pool import Pool

from flask_tokenrotate import SignInRequired, TokenRotate, current_token, require_fresh_token

from . import sabotage
from .visitors import eventually

rotate = TokenRotate()
pages = Blueprint("pages", __name__)


def create_app() -> Flask:
    """Return the application.

    ``INSTANCE`` is the folder for its files. ``REDIS``: keep the sessions there, by Flask-Session.
    ``CONNECT_EARLY``: read the database right away, which with ``--preload`` is before the fork.
    """
    app = Flask(__name__, instance_path=os.environ["INSTANCE"])
    app.config.from_prefixed_env()
    if "REDIS" in os.environ:
        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(os.environ["REDIS"]))
        Session(app)
    sabotage.install(Path(app.instance_path))
    rotate.init_app(app)
    app.register_blueprint(pages)
    if "CONNECT_EARLY" in os.environ:
        read_the_database(app)
    return app


def read_the_database(app: Flask) -> None:
    """Look for a grant that does not exist."""
    with app.app_context():
        try:
            rotate.token("no-such-grant")
        except SignInRequired:
            return


@pages.post("/adopt/<provider>")
def adopt(provider: str) -> dict[str, Any]:
    """Sign the session in with a token response."""
    return {"grant": rotate.adopt(provider, request.get_json()).id}


@pages.get("/token/<provider>")
def token(provider: str) -> dict[str, Any]:
    """Need a fresh token and say what it is, but for the token itself; ``?api=`` is called with it."""
    return require_fresh_token(provider)(about_the_token)()


@pages.get("/stream/<provider>")
def stream(provider: str) -> Response:
    """Need a fresh token and send a response without a length, whose end is the connection's end."""
    require_fresh_token(provider)(about_the_token)()
    return Response((f"{number}\n" for number in range(3)), mimetype="text/plain")


@pages.get("/fork/<provider>")
def fork(provider: str) -> dict[str, Any]:
    """Fork a child that gets a token itself, and lives until there is a file ``end-of-the-child``.

    ``?grant=`` has a redemption in progress here. What the child finds is in the file ``child``.
    """
    grant = request.args["grant"]
    flights = current_app.extensions["tokenrotate"].rotation.flights
    found = {"parent_has_flight": flights.of(grant) is not None}
    if os.fork() == 0:
        try:
            folder = Path(current_app.instance_path)
            found |= {"has_flight": flights.of(grant) is not None, "threads": rotation_threads(provider)}
            found |= {"token": require_fresh_token(provider)(about_the_token)()}
            Path(folder, "child.new").write_text(json.dumps(found))
            Path(folder, "child.new").rename(folder / "child")
            eventually(Path(folder, "end-of-the-child").exists, seconds=30)
        finally:
            os._exit(0)
    return {"pid": os.getpid()}


@pages.get("/process")
def process() -> dict[str, Any]:
    """Need no token."""
    return {"pid": os.getpid()}


def about_the_token() -> dict[str, Any]:
    """Return what is known of the current token and of this process."""
    api = request.args.get("api")
    return {
        "grant": current_token.grant_id,
        "version": current_token.token_version,
        "origin": current_token.origin,
        "user": current_token.user_id,
        "api": None if api is None else current_token.get(api).status_code,
        "pid": os.getpid(),
        "threads": request.environ["wsgi.multithread"],
        "greenlets": sockets_are_patched(),
        "foreign_connections": len(_foreign),
        "rotation_threads": rotation_threads(current_token.provider),
    }


def sockets_are_patched() -> bool:
    """Return whether gevent has put its own sockets in the place of the standard library's."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def rotation_threads(provider: str) -> int:
    """Return how many rotation threads of the provider are in this process."""
    return sum(thread.name == f"tokenrotate-{provider}" for thread in threading.enumerate())


_foreign: list[int] = []


@event.listens_for(Pool, "connect")
def note_who_opens(connection: object, record: Any) -> None:
    """Remember which process opened the connection."""
    record.info["opened_by"] = os.getpid()


@event.listens_for(Pool, "checkout")
def note_who_uses(connection: object, record: Any, proxy: object) -> None:
    """Count the uses of a connection that another process opened."""
    if record.info["opened_by"] != os.getpid():
        _foreign.append(record.info["opened_by"])
