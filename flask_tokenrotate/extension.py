"""`TokenRotate`: the extension object, and where everything is wired together."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flask import Flask, has_request_context

from .clock import SystemClock
from .config import Settings
from .errors import Misconfigured, SignInRequired, UnknownProvider
from .providers.authorize import authorization_url, code_challenge
from .providers.build import build_provider
from .providers.endpoint import OAuthEndpoint
from .providers.profile import Provider
from .providers.redaction import install_redaction
from .providers.resource import ProtectedSession
from .rotation.adoption import adopted
from .rotation.memo import RequestMemo
from .rotation.protocol import Policy
from .rotation.redeemer import Timing
from .rotation.rotator import Rotator
from .rotation.tokens import Grant, Secret
from .storage.attempts import SqlAttemptStore
from .storage.audit import Audit
from .storage.engine import Database
from .storage.grants import SqlGrantStore
from .storage.listening import Listener
from .storage.rescue import RescueFiles
from .storage.reseal import reseal
from .storage.sealing import sealer_from
from .storage.sessions import SqlSessionStore
from .storage.survey import grants_by_key, survey
from .storage.tables import create_tables
from .web import request as web_request
from .web.answers import register_answers
from .web.cli import tokenrotate as commands
from .web.current_token import CurrentToken, token_of_grant
from .web.login import blueprint
from .web.sessions import set_up_sessions
from .web.sign_in import add_grant, check_user_id, sign_in, sign_out, sign_out_everywhere
from .web.signals import SignalObserver
from .web.state import Identify, State, current_state

EXTENSION = "tokenrotate"


class TokenRotate:
    """Keeps the OAuth 2 tokens of signed-in users fresh.

    Make one unbound object and call `init_app` in the application factory; one object serves any
    number of applications, whose state lives in ``app.extensions["tokenrotate"]``.

    ``engine`` is a SQLAlchemy engine or a Flask-SQLAlchemy object to keep the grants on, in place of
    the extension's own engine (``TOKENROTATE_DATABASE_URI``). Only its engine is used, never its
    session: nothing of the application's is committed or rolled back.
    """

    def __init__(self, app: Flask | None = None, *, engine: Any = None) -> None:
        self._engine = engine
        self._registered: dict[str, dict[str, Any]] = {}
        self._identify: Identify | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, engine: Any = None) -> None:
        """Set the extension up for ``app``: no network, no database connection and no table yet.

        Reads the ``TOKENROTATE_*`` keys (see `Settings`). Raises `Misconfigured` when one of them
        cannot work, or when the application has the extension already.
        """
        if EXTENSION in app.extensions:
            raise Misconfigured(f"TokenRotate is set up for the application {app.name!r} already.")
        settings = Settings.from_config(app.config)
        install_redaction()
        state = app.extensions[EXTENSION] = self._state(app, settings, engine or self._engine)
        set_up_sessions(app, state.sessions, allow_cookie_sessions=settings.allow_cookie_sessions)
        app.before_request(web_request.load_grants(app, state))
        app.register_blueprint(blueprint, url_prefix=settings.url_prefix)
        app.cli.add_command(commands)
        register_answers(app)

    def register(self, name: str, **profile: Any) -> None:
        """Register a provider, before or after `init_app`.

        ``name`` picks an entry of the catalogue where there is one; ``profile`` adds to it or
        overrides it, with the fields of `providers.profile.Provider`: ``client_id``,
        ``client_secret``, ``scopes`` and so on. What ``profile`` leaves out may come from
        ``TOKENROTATE_PROVIDERS`` or the environment. A profile that cannot work raises
        `Misconfigured` when it is first used.
        """
        self._registered[name] = dict(profile)

    def identify(self, function: Identify) -> Identify:
        """Decorate the function that says which of your users has signed in.

        It is called with the provider's name and a mapping of what the provider says of the user
        (ID token and userinfo claims), and returns your own user id as a string, or None. Without
        it the user id is the provider's subject.
        """
        self._identify = function
        return function

    def adopt(self, provider: str, token_response: Mapping[str, Any], *, user_id: str | None = None) -> Grant:
        """Put tokens that were obtained elsewhere under the extension's care and return the grant.

        ``token_response`` is the token endpoint's answer, or a token that another library stored
        (``expires_at`` is honoured). Inside a request the session is signed in with the new grant.
        Raises `InvalidTokenResponse` when there is no access token in it.
        """
        state = current_state()
        answer = adopted(token_response, state.provider(provider).answers, wall_clock=time.time())
        if has_request_context():
            return sign_in(state, provider, answer, None, {}, user_id=user_id)
        return add_grant(state, provider, answer, None, {}, user_id=user_id)

    def token(self, grant_id: str) -> CurrentToken:
        """Return the fresh token of a grant: for Celery, RQ, cron and scripts, in an app context.

        A due rotation is done here, ahead of the token's expiry. Raises what `require_fresh_token`
        raises.
        """
        state = current_state()
        if has_request_context():
            grants = web_request.request_grants()
            grants.of_grant(grant_id)  # raises now rather than at first use
            return token_of_grant(state, grants.memo, lambda: grants.of_grant(grant_id))
        memo = RequestMemo()
        memo.fresh(state.rotator, grant_id)
        for due in memo.rotations_ahead():
            state.rotator.rotate_ahead(due.grant.id, min_ttl=due.min_ttl)
            memo.forget()
        return token_of_grant(state, memo, lambda: memo.fresh(state.rotator, grant_id))

    def token_for(self, user_id: str, provider: str | None = None) -> CurrentToken:
        """Return the fresh token of a user's newest living grant; otherwise as `token`.

        Raises `SignInRequired` when the user has none.
        """
        state = current_state()
        name = state.provider_name(provider)
        check_user_id(user_id)
        grant_id = state.grants.find(user_id, name)
        if grant_id is None:
            raise SignInRequired(name, "no_grant")
        return self.token(grant_id)

    def grant(self, grant_id: str) -> Grant | None:
        """Return the grant's row as it is now, for pages that show its state; None if there is none.

        Nothing is rotated and nobody waited for. Its tokens are `Secret` values, which do not print.
        """
        return current_state().grants.load(grant_id)

    def expire(self, grant_id: str) -> None:
        """Mark the stored access token as no longer usable, for callers who learn it elsewhere.

        The next request rotates it. Other processes may use it for up to
        ``TOKENROTATE_CACHE_SECONDS`` more.
        """
        current_state().rotator.expire(grant_id)

    def sign_out(self, provider: str | None = None) -> bool:
        """Sign the current session out of ``provider`` and return whether it was signed in there.

        Ends the grant, then revokes its tokens at the provider, which may be down.
        """
        state = current_state()
        return sign_out(state, state.provider_name(provider))

    def sign_out_grant(self, grant_id: str) -> bool:
        """End a grant by its id, in whichever session it is; otherwise as `sign_out`."""
        ended = current_state().rotator.sign_out(grant_id)
        web_request.forget_request()
        return ended

    def sign_out_everywhere(self, user_id: str) -> int:
        """End all grants of the user, and the sessions that the extension keeps; return how many grants.

        All in one transaction, by the user ids of `identify`; then the tokens are revoked at the
        providers, which may be down. Sessions that Flask-Session keeps live on, without a usable grant.
        Other processes may use a token for up to ``TOKENROTATE_CACHE_SECONDS`` more.
        """
        return sign_out_everywhere(current_state(), user_id)

    def _state(self, app: Flask, settings: Settings, engine: Any) -> State:
        profiles = _Profiles(self._registered, settings)
        clock = SystemClock()
        database = _database(app, settings, engine)
        sealer = sealer_from(
            settings.encryption_keys, app.secret_key, app.config.get("SECRET_KEY_FALLBACKS") or ()
        )
        grants = SqlGrantStore(database, sealer, notifies=settings.listen)
        attempts = SqlAttemptStore(database, sealer)
        sessions = SqlSessionStore(database)
        endpoint = OAuthEndpoint(profiles.get, clock, connect_seconds=settings.connect_seconds)
        rotator = Rotator(
            grants,
            endpoint,
            clock,
            SignalObserver(),
            RescueFiles(Path(app.instance_path, settings.rescue_dir or "tokenrotate-rescue"), sealer),
            Listener(database, clock, enabled=settings.listen),
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
            audit=Audit(database),
            endpoint=endpoint,
            authorization_url=_authorization_url,
            api=_sessions_by_process(),
            rotator=rotator,
            clock=clock,
            provider=profiles.get,
            provider_names=profiles.names,
            create_tables=lambda: create_tables(database.engine()),
            survey=lambda sample: survey(database, sealer, sample=sample),
            grants_by_key=lambda: grants_by_key(database),
            key_fingerprints=sealer.fingerprints,
            reseal=lambda: reseal(database, sealer),
            prune=(sessions.prune, attempts.prune),
            identify=lambda: self._identify,
        )


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
            raise Misconfigured(
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
        """Return the profile of ``name``; raises `UnknownProvider` or `Misconfigured`."""
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
