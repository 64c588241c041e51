"""The ``before_request`` hook: loads the server-side session with its grants, and sets the memo on ``g``."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from .request_grants import request_grants
from .require_fresh_token import is_guarded
from .state import State


def load_session(app: Flask, state: State) -> Callable[[], None]:
    """Return the hook for ``app``.

    If the view is decorated with `require_fresh_token`, the hook loads the session and its grants in one
    statement. For other views (also a `MethodView`, or one whose outer decorator hides ours) they are loaded
    when the session is first used. A request that uses neither runs no query.
    """

    def load() -> None:
        # It may exist already: a hook that ran before this one may have used a token.
        grants = request_grants(app, state)
        state.check_session_interface(app)
        view = app.view_functions.get(grants.request.endpoint or "")
        if view is not None and is_guarded(view):
            grants.load()

    return load
