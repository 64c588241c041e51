"""Signals (blinker), sent with the application as sender, and the observer that sends them.

No payload carries a token, code, state or secret.

==================  ============================================================================
Signal              Keywords
==================  ============================================================================
`signed_in`         grant_id, provider, user_id, subject, claims (what the provider says of the user)
`token_rotated`     grant_id, provider, user_id, token_version
`grant_ended`       grant_id, provider, user_id, reason ("signed_out", "refused", …), error
`rotation_failed`   grant_id, provider, user_id, failure, retry_after (seconds or None)
`scopes_changed`    grant_id, provider, user_id, before, now (sorted lists)
==================  ============================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from blinker import Namespace
from flask import current_app, has_app_context

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
    """Tells receivers and the log what the protocol does; implements `rotation.ports.Observer`."""

    def notify(self, name: str, grant: Grant, facts: Mapping[str, Any]) -> None:
        """Log the event and send its signal; a receiver that raises is logged and harms nothing."""
        logger.debug("grant %s at %s: %s %s", grant.id, grant.provider, name, dict(facts))
        signal = _SIGNALS.get(name)
        if signal is None or not has_app_context():
            return
        try:
            signal.send(
                current_app._get_current_object(),  # type: ignore[attr-defined]
                grant_id=grant.id,
                provider=grant.provider,
                user_id=grant.user_id,
                **facts,
            )
        except Exception:
            # The token set is saved by now; a receiver's defect must not lose it for the request.
            logger.exception("a receiver of the signal %s failed", name)
