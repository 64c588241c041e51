"""Makes the parts of an application from its settings, and passes them to each other."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask

from .clock import SystemClock
from .config import Settings
from .errors import ConfigurationError
from .maintenance import Maintenance
from .provider import Provider
from .providers.authorize import authorization_url
from .providers.connections import SharedConnections
from .providers.endpoint import OAuthEndpoint
from .providers.redaction import install_redaction
from .providers.registry import Providers
from .providers.token_session import TokenSession
from .rotation.assembly import Rotation
from .rotation.holding import Timing
from .rotation.ports import GrantStore
from .rotation.protocol import Policy
from .sessions.chosen_interface import set_up_sessions
from .sessions.interface import ServerSessionInterface
from .sessions.joined_grants import JoinedGrants
from .sessions.store import SqlSessionStore
from .storage.attempts import SqlAttemptStore
from .storage.database.engine import Database
from .storage.database.listening import Listener
from .storage.grants import SqlGrantStore
from .storage.sealed.rescue_files import RescueFiles
from .storage.sealed.sealing import sealer_from
from .threads import CallersThread, RotationThreads, threads_can_run
from .web.before_request import load_session
from .web.cli import tokenrotate
from .web.error_responses import error_response, register_error_handler
from .web.signals import SignalObserver
from .web.state import EXTENSION, Identify, State
from .web.views import blueprint

if TYPE_CHECKING:
    from .application_engine import ApplicationEngine


def set_up(
    app: Flask,
    engine: ApplicationEngine | None,
    store: GrantStore | None,
    registered: Mapping[str, Mapping[str, object]],
    identify: Callable[[], Identify | None],
) -> None:
    """Set up the extension for ``app``; see `TokenRotate.init_app`."""
    if store is not None:
        _check_methods(store)
    settings = Settings.from_config(app.config)
    install_redaction()
    state = _state(app, settings, engine, store, registered, identify)
    app.extensions[EXTENSION] = state
    set_up_sessions(
        app,
        lambda: ServerSessionInterface(app, state.sessions, error_response),
        allow_cookie_sessions=settings.allow_cookie_sessions,
    )
    app.before_request(load_session(app, state))
    app.register_blueprint(blueprint, url_prefix=settings.url_prefix)
    app.cli.add_command(tokenrotate)
    register_error_handler(app)


def _check_methods(store: object) -> None:
    """Raise `ConfigurationError` unless ``store`` has the methods of `GrantStore`."""
    names = [name for name in vars(GrantStore) if not name.startswith("_")]
    missing = [name for name in names if not callable(getattr(store, name, None))]
    if missing:
        raise ConfigurationError(
            f"The store of TokenRotate(store=…) is {type(store).__name__}, which does not have the methods "
            f"{', '.join(missing)} of flask_tokenrotate.rotation.ports.GrantStore."
        )


def _state(
    app: Flask,
    settings: Settings,
    engine: ApplicationEngine | None,
    store: GrantStore | None,
    registered: Mapping[str, Mapping[str, object]],
    identify: Callable[[], Identify | None],
) -> State:
    # The parts in the order in which they need each other.
    providers = Providers(registered, settings.providers, functools.partial(_policy, settings))
    clock = SystemClock()
    database = _database(app, settings, engine)
    fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or ()
    sealer = sealer_from(settings.encryption_keys, app.secret_key, fallbacks)
    rows = SqlGrantStore(database, sealer, notifies=settings.listen)
    grants: GrantStore = rows if store is None else store
    attempts, sessions = SqlAttemptStore(database, sealer), SqlSessionStore(database, clock)
    endpoint = OAuthEndpoint(providers.get, clock, connect_seconds=settings.connect_seconds)
    threads = _threads(settings, clock)
    rotation = Rotation(
        store=grants,
        endpoint=endpoint,
        clock=clock,
        observer=SignalObserver(app),
        rescue=RescueFiles(Path(app.instance_path, settings.rescue_dir or "tokenrotate-rescue"), sealer),
        wakeups=Listener(database, clock, enabled=settings.listen and store is None),
        threads=threads,
        policy_for=providers.policy,
        timing=_timing(settings),
        wait_seconds=settings.wait_seconds,
        cache_entries=settings.cache_entries,
        cache_seconds=settings.cache_seconds,
    )
    return State(
        settings=settings,
        grants=grants,
        attempts=attempts,
        sessions=sessions,
        maintenance=Maintenance(database, sealer),
        authorization_url=authorization_url,
        exchange=endpoint.exchange,
        userinfo=endpoint.userinfo,
        api=functools.partial(TokenSession, SharedConnections()),
        rotation=rotation,
        threads=threads,
        joined_grants=JoinedGrants(rows.grant_from, rotation.token_sets) if store is None else None,
        clock=clock,
        provider=providers.get,
        provider_names=providers.names,
        prune=(sessions.prune, attempts.prune),
        identify=identify,
    )


def _database(app: Flask, settings: Settings, engine: ApplicationEngine | None) -> Database:
    if engine is not None:
        if settings.database_uri is not None:
            raise ConfigurationError(
                "TokenRotate got both an engine and TOKENROTATE_DATABASE_URI. Use one of the two."
            )
        return Database.from_application(engine)
    uri = settings.database_uri or f"sqlite:///{os.path.join(app.instance_path, 'tokenrotate.sqlite3')}"
    return Database.from_uri(uri, settings.engine_options, folder=app.instance_path)


def _threads(settings: Settings, clock: SystemClock) -> RotationThreads | CallersThread:
    """Return what redemptions run on: threads, unless they are switched off or cannot run here."""
    if settings.rotation_threads and threads_can_run():
        return RotationThreads(clock, limit=settings.rotation_threads, drain_seconds=settings.drain_seconds)
    return CallersThread()


def _policy(settings: Settings, profile: Provider) -> Policy:
    return profile.policy(
        min_ttl=settings.min_ttl_seconds, ahead=settings.ahead_seconds, settle=settings.settle_seconds
    )


def _timing(settings: Settings) -> Timing:
    return Timing(
        redeem=settings.redeem_seconds,
        claim=settings.claim_seconds,
        backoff=settings.backoff_seconds,
        backoff_limit=settings.backoff_limit_seconds,
    )
