"""The signals (blinker), and the observer that sends them. The sender is the application.

No signal has a token, code, state or secret. `signed_in` is sent during the sign-in, whose view raises what a
receiver raises. The others are sent when a redemption has ended and the requests that waited for it continue.
They may be sent on a rotation thread, without a request context. A receiver may use the token, call an API or
be slow: no request waits for it.

==================  ============================================================================
Signal              Keywords
==================  ============================================================================
`signed_in`         grant_id, provider, user_id, subject, claims (of the ID token and userinfo)
`token_rotated`     grant_id, provider, user_id, token_version
`grant_ended`       grant_id, provider, user_id, reason ("signed_out", "refused", …), error
`rotation_failed`   grant_id, provider, user_id, failure, code, retry_after (seconds or None)
`scopes_changed`    grant_id, provider, user_id, before, now (sorted lists)
==================  ============================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from blinker import Namespace
from flask import Flask, current_app

from ..rotation.ports import EventName
from ..rotation.tokens import Grant

logger = logging.getLogger("flask_tokenrotate")

_namespace = Namespace()
signed_in = _namespace.signal("signed_in")
token_rotated = _namespace.signal("token_rotated")
grant_ended = _namespace.signal("grant_ended")
rotation_failed = _namespace.signal("rotation_failed")
scopes_changed = _namespace.signal("scopes_changed")

_SIGNALS = {signal.name: signal for signal in (token_rotated, grant_ended, rotation_failed, scopes_changed)}


class SignalObserver:
    """Sends a signal for each event of the protocol, and logs it; implements `rotation.ports.Observer`."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def notify(self, name: EventName, grant: Grant, facts: Mapping[str, Any]) -> None:
        """Log the event and send its signal, in a context of the application.

        An exception of a receiver is logged and goes no further.
        """
        logger.debug("grant %s at %s: %s %s", grant.id, grant.provider, name, dict(facts))
        signal = _SIGNALS.get(name)
        if signal is None or not signal.receivers:
            return
        try:
            # A rotation thread has no context; a job or a request has its own, and keeps it.
            with nullcontext() if current_app == self._app else self._app.app_context():
                signal.send(
                    self._app,
                    grant_id=grant.id,
                    provider=grant.provider,
                    user_id=grant.user_id,
                    **facts,
                )
        except Exception:
            # An error in a receiver must not fail the request or end the thread that sent the signal.
            logger.exception("a receiver of the signal %s failed", name)
