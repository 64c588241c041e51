"""Wires an application: makes the parts from its settings and hangs them on it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from .clock import SystemClock
from .config import Settings
from .errors import ConfigurationError, UnknownProvider
from .maintenance import Maintenance
from .providers.authorize import authorization_url, code_challenge
from .providers.build import build_provider
from .providers.endpoint import OAuthEndpoint
from .providers.profile import Provider
from .providers.redaction import install_redaction
from .providers.resource import ProtectedSession
from .rotation.ports import GrantStore
from .rotation.protocol import Policy
from .rotation.redeemer import Timing
from .rotation.rotator import Rotator
from .rotation.tokens import Secret
from .sessions.interface import set_up_sessions
from .sessions.store import SqlSessionStore
from .storage.attempts import SqlAttemptStore
from .storage.database.engine import Database
from .storage.database.listening import Listener
from .storage.grants import SqlGrantStore
from .storage.sealed.rescue_files import RescueFiles
from .storage.sealed.sealing import sealer_from
from .web.commands import Commands
from .web.error_responses import register_error_handler
from .web.login import blueprint
from .web.request import load_grants
from .web.signals import SignalObserver
from .web.state import EXTENSION, Identify, State


def set_up(
    app: Flask,
    engine: Any,
    store: GrantStore | None,
    registered: Mapping[str, Mapping[str, Any]],
    identify: Callable[[], Identify | None],
) -> None:
    """Set the extension up for ``app``; see `TokenRotate.init_app`."""
    settings = Settings.from_config(app.config)
    install_redaction()
    state = _state(app, settings, engine, store, registered, identify)
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
    store: GrantStore | None,
    registered: Mapping[str, Mapping[str, Any]],
    identify: Callable[[], Identify | None],
) -> State:
    profiles = _Profiles(registered, settings)
    clock = SystemClock()
    database = _database(app, settings, engine)
    former = app.config.get("SECRET_KEY_FALLBACKS") or ()
    sealer = sealer_from(settings.encryption_keys, app.secret_key, former)
    rescue = RescueFiles(Path(app.instance_path, settings.rescue_dir or "tokenrotate-rescue"), sealer)
    grants = SqlGrantStore(database, sealer, notifies=settings.listen) if store is None else store
    attempts = SqlAttemptStore(database, sealer)
    sessions = SqlSessionStore(database)
    endpoint = OAuthEndpoint(profiles.get, clock, connect_seconds=settings.connect_seconds)
    rotator = Rotator(
        grants,
        endpoint,
        clock,
        SignalObserver(),
        rescue,
        Listener(database, clock, enabled=settings.listen and store is None),
        policy_for=profiles.policy,
        timing=_timing(settings),
        cache_entries=settings.cache_entries,
        cache_seconds=settings.cache_seconds,
    )
    return State(
        settings=settings,
        grants=grants,
        attempts=attempts,
        sessions=sessions,
        end_everywhere=sessions.end_everywhere
        if store is None
        else _end_everywhere(store, sessions, profiles),
        maintenance=Maintenance(database, sealer),
        endpoint=endpoint,
        authorization_url=_authorization_url,
        api=_sessions_by_process(),
        rotator=rotator,
        clock=clock,
        provider=profiles.get,
        provider_names=profiles.names,
        prune=(sessions.prune, attempts.prune),
        identify=identify,
    )


def _end_everywhere(
    store: GrantStore, sessions: SqlSessionStore, profiles: _Profiles
) -> Callable[[str], list[str]]:
    """Return what ends a user's sessions, and then the grants in a store of the application's own."""

    def end_everywhere(user_id: str) -> list[str]:
        ended = sessions.end_everywhere(user_id)
        for provider in profiles.names():
            while (grant_id := store.find(user_id, provider)) is not None:
                if store.end(grant_id, "signed_out"):
                    ended.append(grant_id)
        return ended

    return end_everywhere


def _authorization_url(provider: Provider, *, verifier: Secret, **request: Any) -> str:
    return authorization_url(provider, challenge=code_challenge(verifier), **request)


def _sessions_by_process() -> Callable[[], ProtectedSession]:
    """Return what returns this process's session for API calls.

    A connection that two processes of a fork share would mix up the answers of two users.
    """
    session_of = functools.lru_cache(maxsize=1)(lambda pid: ProtectedSession())
    return lambda: session_of(os.getpid())


def _database(app: Flask, settings: Settings, engine: Any) -> Database:
    if engine is not None:
        if settings.database_uri is not None:
            raise ConfigurationError(
                "TokenRotate was given an engine and TOKENROTATE_DATABASE_URI; use one of the two."
            )
        return Database.from_application(engine)
    uri = settings.database_uri or f"sqlite:///{os.path.join(app.instance_path, 'tokenrotate.sqlite3')}"
    return Database.from_uri(uri, settings.engine_options, folder=app.instance_path)


def _timing(settings: Settings) -> Timing:
    return Timing(
        redeem=settings.redeem_seconds,
        claim=settings.claim_seconds,
        wait=settings.wait_seconds,
        backoff=settings.backoff_seconds,
        backoff_limit=settings.backoff_limit_seconds,
    )


class _Profiles:
    """The registered providers of one application, each built when it is first used."""

    def __init__(self, registered: Mapping[str, Mapping[str, Any]], settings: Settings) -> None:
        self._registered = registered
        self._settings = settings
        self._built: dict[str, tuple[object, Provider, Policy]] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all registered providers."""
        return tuple({**self._settings.providers, **self._registered})

    def get(self, name: str) -> Provider:
        """Return the profile of ``name``; raises `UnknownProvider` or `ConfigurationError`."""
        return self._entry(name)[1]

    def policy(self, name: str) -> Policy:
        """Return how the provider ``name`` wants to be asked."""
        return self._entry(name)[2]

    def _entry(self, name: str) -> tuple[object, Provider, Policy]:
        registered = self._registered.get(name)
        built = self._built.get(name)
        if built is not None and built[0] is registered:
            return built
        configured = self._settings.providers.get(name)
        if registered is None and configured is None:
            raise UnknownProvider(name, self.names())
        profile = build_provider(name, configured or {}, registered or {})
        policy = profile.policy(
            min_ttl=self._settings.min_ttl_seconds,
            ahead=self._settings.ahead_seconds,
            settle=self._settings.settle_seconds,
        )
        self._built[name] = (registered, profile, policy)
        return self._built[name]
