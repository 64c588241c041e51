"""The hook before each request: loads the server-side session and its grants, puts the memo on ``g``."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from .request_grants import request_grants
from .require_fresh_token import is_guarded
from .state import State


def load_session(app: Flask, state: State) -> Callable[[], None]:
    """Return the hook for ``app``.

    For a view that `require_fresh_token` guards, the session and its grants are loaded in one statement.
    Other views load them when they first use the session, and a request that uses neither runs no query. The
    endpoint's view is a hint: a `MethodView`, or a wrapper that hides the guard, loads at first use too.
    """

    def load() -> None:
        # Not a new one in any case: a hook that ran before may have got a token already.
        grants = request_grants(app, state)
        state.check_session_interface(app)
        view = app.view_functions.get(grants.request.endpoint or "")
        if view is not None and is_guarded(view):
            grants.load()

    return load
