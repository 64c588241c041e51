"""Timing and policy of an application with default settings, for tests that make a rotator themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask_tokenrotate.config import Settings
from flask_tokenrotate.rotation.holding import Timing
from flask_tokenrotate.rotation.protocol import Policy
from flask_tokenrotate.wiring import _timing


def default_timing(**over: Any) -> Timing:
    """Return the timing of `Settings`, with the fields in ``over`` replaced."""
    return replace(_timing(Settings()), **over)


def default_policy(**over: Any) -> Policy:
    """Return the policy of `Settings`, for a provider whose profile says nothing, with ``over`` replaced."""
    settings = Settings()
    policy = Policy(
        min_ttl=settings.min_ttl_seconds, ahead=settings.ahead_seconds, settle=settings.settle_seconds
    )
    return replace(policy, **over)
