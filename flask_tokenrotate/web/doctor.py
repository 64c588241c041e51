"""The checks of ``flask tokenrotate doctor``, and the warnings about keys that each process logs once.

A check is a function of the application and its state that yields `Finding` objects. If it raises one of our
errors, it fails.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from ..errors import TokenRotateError
from ..sessions.interface import ServerSessionInterface
from .state import State
from .urls import callback_url

logger = logging.getLogger("flask_tokenrotate")

Level = Literal["ok", "warn", "fail"]

SAMPLE = 500
"""How many grants the doctor decrypts."""

SAMPLE_AT_START = 50
"""How many grants a process decrypts after its first token."""

MOST_CLOCK_DIFFERENCE = 30.0
"""Seconds. A larger difference breaks nothing, but the times in logs and on pages differ from the rows'."""

SHORTEST_SECRET = 16
"""Characters of a ``SECRET_KEY``; a shorter one is weak."""

LONGEST_DEFAULT = 32
"""A ``SECRET_KEY`` of this many characters is not taken for a default, whatever word it begins with."""

FEWEST_CHARACTERS = 10
"""Different characters in the base64 of a key. 32 random bytes practically never have fewer."""

_NEW_KEY = "Set TOKENROTATE_ENCRYPTION_KEYS to the output of: flask tokenrotate new-key"
_OTHER_KEYS = (
    "Another worker has other keys. Set the same TOKENROTATE_ENCRYPTION_KEYS (or SECRET_KEY) for all "
    "workers, or add the missing key."
)
_DEFAULTS = ("dev", "secret", "change", "example", "default", "password", "your-", "test")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check; ``cure`` says what to do, and is empty if the level is ``"ok"``."""

    level: Level
    check: str
    message: str
    cure: str = ""


def examine(app: Flask, state: State) -> Iterator[Finding]:
    """Yield the findings of all checks, in an application context of ``app``."""
    for check in (_keys, _database, _providers, _sessions, _urls):
        try:
            yield from check(app, state)
        except TokenRotateError as error:
            yield Finding("fail", check.__name__.strip("_"), str(error))


def log_key_problems_once(app: Flask, state: State) -> None:
    """Log problems with the keys: once for each process and application, after its first token.

    `init_app` cannot do it, because it uses no database.
    """
    if state.warned.of_keys:
        return
    state.warned.of_keys = True
    findings = [] if app.debug or app.testing else list(_keys(app, state))
    try:
        findings.append(_decrypted(state, SAMPLE_AT_START))
    except TokenRotateError:
        # Requests that need the database raise the same error, and it is logged there.
        logger.debug("the keys could not be checked on stored grants", exc_info=True)
    for finding in findings:
        if finding.level != "ok":
            logger.warning("%s: %s %s", finding.check, finding.message, finding.cure)


def _keys(app: Flask, state: State) -> Iterator[Finding]:
    keys = state.settings.encryption_keys
    if not keys:
        yield Finding(
            "warn",
            "keys",
            "The encryption key is derived from SECRET_KEY. A new SECRET_KEY loses all tokens, "
            "unless the old one is in SECRET_KEY_FALLBACKS.",
            _NEW_KEY,
        )
        if _is_weak_secret(app.secret_key):
            yield Finding(
                "fail",
                "keys",
                f"SECRET_KEY is a default, or has fewer than {SHORTEST_SECRET} characters.",
                _NEW_KEY,
            )
        return
    weak = [number for number, key in enumerate(keys, 1) if len(set(key)) < FEWEST_CHARACTERS]
    if weak:
        yield Finding(
            "fail",
            "keys",
            f"Key number {weak[0]} in TOKENROTATE_ENCRYPTION_KEYS is not random.",
            "Put one of `flask tokenrotate new-key` before it, then: flask tokenrotate rotate-keys",
        )
    else:
        yield Finding("ok", "keys", "The encryption keys do not depend on SECRET_KEY.")


def _is_weak_secret(secret: str | bytes | None) -> bool:
    text = secret.decode("latin-1") if isinstance(secret, bytes) else secret or ""
    looks_like_default = len(text) < LONGEST_DEFAULT and text.lower().startswith(_DEFAULTS)
    return len(text) < SHORTEST_SECRET or looks_like_default


def _database(app: Flask, state: State) -> Iterator[Finding]:
    if state.joined_grants is None:
        yield Finding(
            "warn",
            "database",
            "The grants are in the store that was passed as TokenRotate(store=…), which is not checked.",
        )
    yield _decrypted(state, SAMPLE)
    yield from _foreign_keys(state)
    ahead = state.maintenance.survey(0).clock_ahead
    if abs(ahead) > MOST_CLOCK_DIFFERENCE:
        side = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            "warn",
            "clock",
            f"This host's clock is {abs(ahead):.0f} s {side} the database's.",
            "Run NTP on both. Rotation uses the database's clock; logs and pages do not.",
        )
    else:
        yield Finding("ok", "clock", "The clocks of this host and the database agree.")


def _foreign_keys(state: State) -> Iterator[Finding]:
    """Yield a finding for each key that encrypted a grant and that this process does not have."""
    for fingerprint, grants in sorted(state.maintenance.grants_by_key().items()):
        if fingerprint not in state.maintenance.key_fingerprints:
            yield Finding(
                "fail",
                "database",
                f"{grants} grants are encrypted with key {fingerprint}, which this process does not "
                f"have (it has {', '.join(state.maintenance.key_fingerprints)}).",
                _OTHER_KEYS,
            )


def _decrypted(state: State, sample: int) -> Finding:
    """Decrypt a sample of the rows. Raises `StoreUnavailable` and `TablesMissing`."""
    seen = state.maintenance.survey(sample)
    if not seen.unreadable:
        message = (
            f"The database responds, its tables exist, and the keys decrypt {seen.sampled} sampled grants."
        )
        return Finding("ok", "database", message)
    others = ", ".join(sorted({each.sealed_with for each in seen.unreadable}))
    return Finding(
        "fail",
        "database",
        f"No key of this process decrypts {len(seen.unreadable)} of {seen.sampled} sampled grants, "
        f"encrypted with: {others}.",
        _OTHER_KEYS,
    )


def _providers(app: Flask, state: State) -> Iterator[Finding]:
    if not state.provider_names():
        yield Finding(
            "warn",
            "providers",
            "No provider is registered.",
            "Call rotate.register(…) or set TOKENROTATE_PROVIDERS.",
        )
    for name in state.provider_names():
        try:
            state.provider(name)
        except TokenRotateError as error:
            yield Finding("fail", "providers", str(error))
            continue
        with app.test_request_context(base_url=state.settings.base_url or "http://127.0.0.1:5000"):
            url = callback_url(state, name)
        yield Finding("ok", "providers", f"{name!r} is complete; its redirect_uri is {url}")


def _sessions(app: Flask, state: State) -> Iterator[Finding]:
    merges_writes = isinstance(app.session_interface, ServerSessionInterface)
    if isinstance(app.session_interface, SecureCookieSessionInterface):
        yield Finding(
            "warn" if state.settings.allow_cookie_sessions else "fail",
            "sessions",
            "Sessions are stored in the browser's cookie, so a signed-out one can be sent again.",
            "Set SESSION_TYPE for Flask-Session, or do not set a session_interface.",
        )
    elif app.config.get("SESSION_REFRESH_EACH_REQUEST") and not merges_writes:
        yield Finding(
            "warn",
            "sessions",
            "Each request writes the whole session. Of two at the same time, one loses its write.",
            "Set SESSION_REFRESH_EACH_REQUEST = False.",
        )
    else:
        yield Finding("ok", "sessions", "Sessions are stored on the server.")


def _urls(app: Flask, state: State) -> Iterator[Finding]:
    base_url = state.settings.base_url
    has_proxy_fix = type(app.wsgi_app).__name__ == "ProxyFix"
    if base_url is None and not has_proxy_fix:
        yield Finding(
            "warn",
            "urls",
            "The redirect_uri is built from the request, without ProxyFix and without a base URL.",
            "Behind a proxy that ends TLS, set TOKENROTATE_BASE_URL or add Werkzeug's ProxyFix.",
        )
    else:
        message = f"Each redirect_uri begins with {base_url}." if base_url else "ProxyFix is used."
        yield Finding("ok", "urls", message)
