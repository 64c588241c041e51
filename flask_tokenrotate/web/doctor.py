"""What ``flask tokenrotate doctor`` looks at, and the warnings that a process logs once by itself.

Each check is a plain function of the application and its state; it yields `Finding`s and raises
nothing but our own errors, which count as failures.
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
from .addresses import callback_url
from .state import State

logger = logging.getLogger("flask_tokenrotate")

Level = Literal["ok", "warn", "fail"]

SAMPLE = 500
"""Grants that the doctor opens; a process at its start opens `SAMPLE_AT_START`."""

SAMPLE_AT_START = 50
MOST_CLOCK_DIFFERENCE = 30.0
"""Seconds; nothing breaks beyond it, but the times in logs and on pages do not match the rows'."""

SHORTEST_SECRET = 16
LONGEST_DEFAULT = 32
"""Characters from which on a ``SECRET_KEY`` is not called a default, whatever word it begins with."""

FEWEST_CHARACTERS = 10
"""Different characters in a key's base64; 32 random bytes practically never have so few."""

_NEW_KEY = "Set TOKENROTATE_ENCRYPTION_KEYS to the output of: flask tokenrotate new-key"
_OTHER_KEYS = (
    "Another worker has other keys: give all of them the same TOKENROTATE_ENCRYPTION_KEYS (or SECRET_KEY), "
    "or add the missing key."
)
_DEFAULTS = ("dev", "secret", "change", "example", "default", "password", "your-", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one check found; ``cure`` says what to do, and is empty where all is well."""

    level: Level
    check: str
    message: str
    cure: str = ""


def examine(app: Flask, state: State) -> Iterator[Finding]:
    """Yield the findings of all checks, in an application context of ``app``."""
    for check in (_keys, _database, _providers, _sessions, _addresses):
        try:
            yield from check(app, state)
        except TokenRotateError as error:
            yield Finding(level="fail", check=check.__name__.strip("_"), message=str(error))


def warn_once(app: Flask, state: State) -> None:
    """Log what is wrong with the keys: once for each process and application, after its first token.

    Not in `init_app`, which needs no database; and after that token's response, which need not wait for it.
    """
    if state.warned.of_keys:
        return
    state.warned.of_keys = True
    findings = [] if app.debug or app.testing else list(_keys(app, state))
    try:
        findings.append(_opened(state, SAMPLE_AT_START))
    except TokenRotateError:
        # Whoever needs the database right now meets the same error and says more about it.
        logger.debug("the keys could not be tried on stored grants", exc_info=True)
    for finding in findings:
        if finding.level != "ok":
            logger.warning("%s: %s %s", finding.check, finding.message, finding.cure)


def _keys(app: Flask, state: State) -> Iterator[Finding]:
    keys = state.settings.encryption_keys
    if not keys:
        yield Finding(
            level="warn",
            check="keys",
            message="The sealing key is derived from SECRET_KEY: a new one loses all tokens, unless the old "
            "one goes into SECRET_KEY_FALLBACKS.",
            cure=_NEW_KEY,
        )
        if _is_weak_secret(app.secret_key):
            yield Finding(
                level="fail",
                check="keys",
                message=f"SECRET_KEY is a default, or has fewer than {SHORTEST_SECRET} characters.",
                cure=_NEW_KEY,
            )
        return
    weak = [number for number, key in enumerate(keys, 1) if len(set(key)) < FEWEST_CHARACTERS]
    if weak:
        yield Finding(
            level="fail",
            check="keys",
            message=f"Key number {weak[0]} in TOKENROTATE_ENCRYPTION_KEYS is not random.",
            cure="Put one of `flask tokenrotate new-key` before it, then: flask tokenrotate rotate-keys",
        )
    else:
        yield Finding(level="ok", check="keys", message="The sealing keys are keys of their own.")


def _is_weak_secret(secret: str | bytes | None) -> bool:
    text = secret.decode("latin-1") if isinstance(secret, bytes) else secret or ""
    looks_like_default = len(text) < LONGEST_DEFAULT and text.lower().startswith(_DEFAULTS)
    return len(text) < SHORTEST_SECRET or looks_like_default


def _database(app: Flask, state: State) -> Iterator[Finding]:
    yield _opened(state, SAMPLE)
    yield from _foreign_keys(state)
    ahead = state.maintenance.survey(0).clock_ahead
    if abs(ahead) > MOST_CLOCK_DIFFERENCE:
        side = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            level="warn",
            check="clock",
            message=f"This host's clock is {abs(ahead):.0f} s {side} the database's.",
            cure="Run NTP on both. Rotation goes by the database's clock; logs and pages do not.",
        )
    else:
        yield Finding(level="ok", check="clock", message="This host and the database agree on the time.")


def _foreign_keys(state: State) -> Iterator[Finding]:
    """Name every key that has sealed a grant and that this process does not have, however few they are."""
    for fingerprint, grants in sorted(state.maintenance.grants_by_key().items()):
        if fingerprint not in state.maintenance.key_fingerprints:
            yield Finding(
                level="fail",
                check="database",
                message=f"{grants} grants are sealed with key {fingerprint}, which this process has not; "
                f"it has {', '.join(state.maintenance.key_fingerprints)}.",
                cure=_OTHER_KEYS,
            )


def _opened(state: State, sample: int) -> Finding:
    """Return whether the keys open a sample of the rows. Raises `StoreUnavailable` and `TablesMissing`."""
    seen = state.maintenance.survey(sample)
    if not seen.unreadable:
        message = f"The database answers, its tables exist, and the keys open {seen.sampled} sampled grants."
        return Finding(level="ok", check="database", message=message)
    others = ", ".join(sorted({each.sealed_with for each in seen.unreadable}))
    return Finding(
        level="fail",
        check="database",
        message=f"No key of this process opens {len(seen.unreadable)} of {seen.sampled} sampled grants, "
        f"sealed with: {others}.",
        cure=_OTHER_KEYS,
    )


def _providers(app: Flask, state: State) -> Iterator[Finding]:
    if not state.provider_names():
        yield Finding(
            level="warn",
            check="providers",
            message="No provider is registered.",
            cure="Call rotate.register(…) or set TOKENROTATE_PROVIDERS.",
        )
    for name in state.provider_names():
        try:
            state.provider(name)
        except TokenRotateError as error:
            yield Finding(level="fail", check="providers", message=str(error))
            continue
        with app.test_request_context(base_url=state.settings.base_url or "http://127.0.0.1:5000"):
            url = callback_url(state, name)
        yield Finding(level="ok", check="providers", message=f"{name!r} is complete; its callback is {url}")


def _sessions(app: Flask, state: State) -> Iterator[Finding]:
    merges_writes = isinstance(app.session_interface, ServerSessionInterface)
    if isinstance(app.session_interface, SecureCookieSessionInterface):
        yield Finding(
            level="warn" if state.settings.allow_cookie_sessions else "fail",
            check="sessions",
            message="Sessions live in the browser's cookie, where a signed-out one can be played back.",
            cure="Set up Flask-Session, or leave SESSION_TYPE and session_interface alone.",
        )
    elif app.config.get("SESSION_REFRESH_EACH_REQUEST") and not merges_writes:
        yield Finding(
            level="warn",
            check="sessions",
            message="Each request writes the whole session back: of two at once one loses its write.",
            cure="Set SESSION_REFRESH_EACH_REQUEST = False.",
        )
    else:
        yield Finding(level="ok", check="sessions", message="Sessions live on the server.")


def _addresses(app: Flask, state: State) -> Iterator[Finding]:
    base_url = state.settings.base_url
    has_proxy_fix = type(app.wsgi_app).__name__ == "ProxyFix"
    if base_url is None and not has_proxy_fix:
        yield Finding(
            level="warn",
            check="addresses",
            message="Callback addresses are built from the request, with neither ProxyFix nor a base URL.",
            cure="Behind a proxy that ends TLS set TOKENROTATE_BASE_URL, or add Werkzeug's ProxyFix.",
        )
    else:
        message = f"Callback addresses start with {base_url}." if base_url else "ProxyFix is in place."
        yield Finding(level="ok", check="addresses", message=message)
