"""By hand: the token in Redis; who finds it expired takes a Redis lock, looks again, and redeems."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import redis
from flask import Flask, session

from .by_hand import redeem
from .pages import add_pages, is_fresh, new_app, with_expiry
from .server_sessions import keep_sessions

KEEP_SECONDS = 3600
LOCK_SECONDS = 10.0


def create_app(place: Mapping[str, str] = os.environ) -> Flask:
    """Return the application."""
    app = new_app("redis_lock", place)
    keep_sessions(app, place)
    server = redis.Redis.from_url(place["REDIS"])

    def key() -> str:
        return f"tokenrotate-benchmark:{os.path.basename(app.instance_path)}:{session['user']}"

    def read() -> dict[str, Any]:
        return dict(json.loads(server.get(key())))

    def write(tokens: dict[str, Any]) -> None:
        server.set(key(), json.dumps(tokens), ex=KEEP_SECONDS)

    def access_token() -> str:
        tokens = read()
        if not is_fresh(tokens):
            with server.lock(f"{key()}:lock", timeout=LOCK_SECONDS):
                tokens = read()
                if not is_fresh(tokens):
                    tokens = redeem(place, tokens)
                    write(tokens)
        return str(tokens["access_token"])

    add_pages(app, lambda tokens: write(with_expiry(tokens)), access_token)
    return app
