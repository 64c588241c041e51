"""Wires an application: makes the parts from its settings and hangs them on it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask

from .clock import SystemClock
from .config import Settings
from .errors import ConfigurationError
from .providers.connections import SharedConnections
from .providers.endpoint import OAuthEndpoint
from .providers.profile import Provider
from .providers.redaction import install_redaction
from .providers.registry import Providers
from .providers.token_session import TokenSession
from .rotation.protocol import Policy
from .rotation.redeemer import Timing
from .rotation.rotator import Rotator
from .sessions.interface import set_up_sessions
from .sessions.store import SqlSessionStore
from .storage.attempts import SqlAttemptStore
from .storage.database.engine import Database
from .storage.database.listening import Listener
from .storage.database.tables import create_tables
from .storage.grants import SqlGrantStore
from .storage.sealed.rescue_files import RescueFiles
from .storage.sealed.sealing import Sealer, sealer_from
from .web.commands import Commands
from .web.error_responses import register_error_handler
from .web.login import blueprint
from .web.request import load_grants
from .web.signals import SignalObserver
from .web.state import EXTENSION, Identify, State

if TYPE_CHECKING:
    from .storage.operations.audit import Audit
    from .storage.operations.reseal import Resealed
    from .storage.operations.survey import Survey


def set_up(
    app: Flask,
    engine: Any,
    registered: Mapping[str, Mapping[str, Any]],
    identify: Callable[[], Identify | None],
) -> None:
    """Set the extension up for ``app``; see `TokenRotate.init_app`."""
    settings = Settings.from_config(app.config)
    install_redaction()
    state = _state(app, settings, engine, registered, identify)
    app.extensions[EXTENSION] = state
    set_up_sessions(app, state.sessions, allow_cookie_sessions=settings.allow_cookie_sessions)
    app.before_request(load_grants(app, state))
    app.register_blueprint(blueprint, url_prefix=settings.url_prefix)
    app.cli.add_command(Commands("tokenrotate"))
    register_error_handler(app)


def _state(
    app: Flask,
    settings: Settings,
    engine: Any,
    registered: Mapping[str, Mapping[str, Any]],
    identify: Callable[[], Identify | None],
) -> State:
    providers = Providers(registered, settings.providers, functools.partial(_policy, settings))
    clock = SystemClock()
    database = _database(app, settings, engine)
    former = app.config.get("SECRET_KEY_FALLBACKS") or ()
    sealer = sealer_from(settings.encryption_keys, app.secret_key, former)
    rescue = RescueFiles(Path(app.instance_path, settings.rescue_dir or "tokenrotate-rescue"), sealer)
    grants = SqlGrantStore(database, sealer, notifies=settings.listen)
    attempts = SqlAttemptStore(database, sealer)
    sessions = SqlSessionStore(database)
    endpoint = OAuthEndpoint(providers.get, clock, connect_seconds=settings.connect_seconds)
    rotator = Rotator(
        grants,
        endpoint,
        clock,
        SignalObserver(),
        rescue,
        Listener(database, clock, enabled=settings.listen),
        policy_for=providers.policy,
        timing=_timing(settings),
        cache_entries=settings.cache_entries,
        cache_seconds=settings.cache_seconds,
    )
    return State(
        settings=settings,
        grants=grants,
        attempts=attempts,
        sessions=sessions,
        maintenance=_Maintenance(database, sealer),
        endpoint=endpoint,
        api=functools.partial(TokenSession, SharedConnections()),
        rotator=rotator,
        clock=clock,
        provider=providers.get,
        provider_names=providers.names,
        prune=(sessions.prune, attempts.prune),
        identify=identify,
    )


class _Maintenance:
    """`web.state.Maintenance`, each part imported when a command or the doctor needs it."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    def create_tables(self) -> None:
        create_tables(self._database.engine())

    @property
    def audit(self) -> Audit:
        from .storage.operations.audit import Audit

        return Audit(self._database)

    @property
    def key_fingerprints(self) -> tuple[str, ...]:
        return self._sealer.fingerprints

    def survey(self, sample: int) -> Survey:
        from .storage.operations.survey import survey

        return survey(self._database, self._sealer, sample=sample)

    def grants_by_key(self) -> dict[str, int]:
        from .storage.operations.survey import grants_by_key

        return grants_by_key(self._database)

    def reseal(self) -> Iterator[Resealed]:
        from .storage.operations.reseal import reseal

        return reseal(self._database, self._sealer)


def _database(app: Flask, settings: Settings, engine: Any) -> Database:
    if engine is not None:
        if settings.database_uri is not None:
            raise ConfigurationError(
                "TokenRotate was given an engine and TOKENROTATE_DATABASE_URI; use one of the two."
            )
        return Database.from_application(engine)
    uri = settings.database_uri or f"sqlite:///{os.path.join(app.instance_path, 'tokenrotate.sqlite3')}"
    return Database.from_uri(uri, settings.engine_options, folder=app.instance_path)


def _policy(settings: Settings, profile: Provider) -> Policy:
    return profile.policy(
        min_ttl=settings.min_ttl_seconds, ahead=settings.ahead_seconds, settle=settings.settle_seconds
    )


def _timing(settings: Settings) -> Timing:
    return Timing(
        redeem=settings.redeem_seconds,
        claim=settings.claim_seconds,
        wait=settings.wait_seconds,
        backoff=settings.backoff_seconds,
        backoff_limit=settings.backoff_limit_seconds,
    )
