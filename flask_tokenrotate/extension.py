"""`TokenRotate`: the extension object, with everything that an application calls.

The parts of an application are imported and made in `init_app` (`wiring`), so that importing this module is
quick.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

from flask import Flask, has_request_context

from .errors import ConfigurationError, SignInRequired
from .web.current_token import CurrentToken, token_of_grant, token_of_job
from .web.request_grants import request_grants, reset_request_grants
from .web.sign_in_and_out import add_grant, check_user_id, sign_in, sign_out, sign_out_everywhere
from .web.state import EXTENSION, current_state

if TYPE_CHECKING:
    from .application_engine import ApplicationEngine
    from .providers.options import ProviderOptions
    from .rotation.ports import GrantStore
    from .rotation.tokens import Grant
    from .web.state import Identify


class TokenRotate:
    """Keeps the OAuth 2 access tokens of signed-in users fresh.

    Create one object and call `init_app` in the application factory::

        rotate = TokenRotate()

        def create_app():
            app = Flask(__name__)
            rotate.init_app(app)
            return app

    One object can serve several applications. The state of each is in ``app.extensions["tokenrotate"]``.

    ``engine`` is where the grants are stored: a SQLAlchemy ``Engine``, or an object with one as its
    ``engine``, such as a Flask-SQLAlchemy ``SQLAlchemy``. The default is an engine of the extension's own for
    ``TOKENROTATE_DATABASE_URI``. The extension never uses the application's ``db.session``, so it neither
    commits nor rolls back the application's changes.

    ``store`` stores the grants somewhere else. It has the methods of `rotation.ports.GrantStore`, and it has
    to encrypt the tokens itself. Sign-in attempts and the extension's own sessions remain in the database.
    The commands ``history``, ``verify``, ``prune-ledger`` and ``rotate-keys`` end with an error, because they
    work on the database only, and ``doctor`` does not check the store. A request that waits for a rotation
    in another process polls the store.

    With ``app``, `init_app` is called at once.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        engine: ApplicationEngine | None = None,
        store: GrantStore | None = None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._registered: dict[str, Mapping[str, object]] = {}
        self._identify: Identify | None = None
        if app is not None:
            self.init_app(app)

    def init_app(
        self, app: Flask, *, engine: ApplicationEngine | None = None, store: GrantStore | None = None
    ) -> None:
        """Set up the extension for ``app``: settings, sessions, sign-in views, error handler and commands.

        ``engine`` and ``store`` override those of the constructor for this application. No network connection
        is opened, and no table is created: run ``flask tokenrotate create-tables`` once.

        Raises `ConfigurationError` for a ``TOKENROTATE_*`` setting that cannot work (see `config.Settings`),
        for both an ``engine`` and ``TOKENROTATE_DATABASE_URI``, for a ``store`` without a method of
        `rotation.ports.GrantStore`, for sessions that are in the cookie only, and
        if the extension is already set up for ``app``.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError(f"TokenRotate is already set up for the application {app.name!r}.")
        from .wiring import set_up

        store = self._store if store is None else store
        set_up(app, engine or self._engine, store, self._registered, lambda: self._identify)

    def register(self, name: str, **options: Unpack[ProviderOptions]) -> None:
        """Register a provider, before or after `init_app`.

        ``name`` is used in URLs and in `require_fresh_token`. The catalogue's entry of this name, if any,
        supplies the endpoints and what is known about the provider. ``options`` are the keywords of
        `providers.options.ProviderOptions`, such as ``client_id``, ``client_secret`` and ``scopes`` (a list,
        or a string with spaces); they override the entry. Every duration is in seconds. An option that is not
        given here is read from ``TOKENROTATE_PROVIDERS``, in ``app.config`` or in the environment.

        Raises `ConfigurationError` for an unknown option, with the nearest known one. An option that is
        missing or has a value that cannot work raises it when the provider is first used.
        """
        from .providers.options import check_options

        check_options(name, options)
        self._registered[name] = dict(options)

    def identify(self, function: Identify) -> Identify:
        """Register ``function``, which returns the application's id of the user who signs in. A decorator.

        ``function(provider, claims)`` is called at each sign-in, before anything is stored. ``claims`` is a
        mapping with the claims of the ID token and of userinfo; it is empty if the provider has neither. The
        result is a string, or None for no user id; any other type raises `ConfigurationError`. Without
        ``function``, the user id is the user's id at the provider.
        """
        self._identify = function
        return function

    def adopt(
        self, provider: str, token_response: Mapping[str, object], *, user_id: str | None = None
    ) -> Grant:
        """Store tokens that were obtained elsewhere as a new grant, and return the grant.

        ``token_response`` is a response of the provider's token endpoint, or the token of another library:
        a mapping with ``access_token`` and usually ``refresh_token``, ``expires_in`` (seconds from now) or
        ``expires_at`` (seconds since the epoch, which takes precedence), and ``scope``. ``user_id`` is the
        application's id of the user; without it `identify` is called with empty claims.

        In a request, the session is signed in with the grant, as after a sign-in. From now on only the
        extension may use the refresh token.

        Raises `InvalidTokenResponse` without a usable access token, `UnknownProvider`, `ConfigurationError`
        for a user id that is not a string, and `StoreUnavailable`.
        """
        from .rotation.adoption import adopted

        state = current_state()
        response = adopted(token_response, state.provider(provider).response_rules, wall_clock=time.time())
        store = sign_in if has_request_context() else add_grant
        return store(state, provider, response, None, {}, user_id=user_id)

    def token(self, grant_id: str) -> CurrentToken:
        """Return the token of a grant. For jobs (Celery, RQ, cron) and scripts, in an application context.

        The token is fresh when this returns, and it is refreshed when it is read later. Outside a request, a
        rotation that is due (also one ahead of the expiry) has ended when this returns, so that none is in
        progress when the job ends.

        Raises `SignInRequired` if the grant does not exist or can give no token, `ProviderUnavailable`,
        `RotationTimeout` or `StoreUnavailable` if there is no token at the moment, `ProviderMisconfigured` if
        the provider refuses the client, and `GrantUnreadable` if no key decrypts the grant.
        """
        state = current_state()
        if has_request_context():
            grants = request_grants()
            grants.fresh_of_grant(grant_id)  # raises now, not when the token is first read
            return token_of_grant(state, lambda: grants.fresh_of_grant(grant_id), grants.replace_refused)
        return token_of_job(state, grant_id)

    def token_for(self, user_id: str, provider: str | None = None) -> CurrentToken:
        """Return the token of a user's newest grant that has not ended; otherwise like `token`.

        ``user_id`` is the application's id of the user. ``provider`` may be omitted if only one is
        registered. Raises `SignInRequired` if the user has no such grant, and what `token` raises.
        """
        state = current_state()
        name = state.provider_name(provider)
        check_user_id(user_id)
        grant_id = state.grants.find(user_id, name)
        if grant_id is None:
            raise SignInRequired(name, "no_grant")
        return self.token(grant_id)

    def grant(self, grant_id: str) -> Grant | None:
        """Return the grant as it is stored now, for pages that show its state; None if it does not exist.

        Nothing is rotated, and the call does not wait for a rotation. The tokens of the grant are `Secret`
        values, which are not printed. Raises `StoreUnavailable` and `GrantUnreadable`.
        """
        return current_state().grants.load(grant_id)

    def expire(self, grant_id: str) -> None:
        """Mark the stored access token as unusable: the next request rotates it.

        For applications that learn in another way than by a 401 that the provider no longer accepts it. A
        request that reads its grant together with the extension's own session sees this at once. Other
        session back ends, and jobs, may use the token for up to ``TOKENROTATE_CACHE_SECONDS`` more in another
        process. Raises `SignInRequired` for an unknown grant id, `StoreUnavailable` and `GrantUnreadable`.
        """
        current_state().rotation.ending.expire(grant_id)

    def sign_out(self, provider: str | None = None) -> bool:
        """Sign the current session out of ``provider``, and return whether it was signed in.

        ``provider`` may be omitted if only one is registered. The grant is ended in the database, then its
        tokens are revoked at the provider; a provider that cannot be reached does not prevent the sign-out.
        Raises `StoreUnavailable`: the session is then still signed in.
        """
        state = current_state()
        return sign_out(state, state.provider_name(provider))

    def sign_out_grant(self, grant_id: str) -> bool:
        """End a grant by its id, whichever session it belongs to, and return whether this call ended it.

        Its tokens are revoked as in `sign_out`. Raises `StoreUnavailable`.
        """
        ended = current_state().rotation.ending.sign_out(grant_id)
        reset_request_grants()
        return ended

    def sign_out_everywhere(self, user_id: str) -> int:
        """End all grants of a user and all of the extension's sessions that they are in.

        ``user_id`` is the application's id of the user (see `identify`). All of this is one transaction; with
        a ``store`` of your own, the grants are ended one by one, at the registered providers. Then the tokens
        are revoked as in `sign_out`. Returns the number of grants that were ended.

        Sessions of Flask-Session's back ends are not ended, but they have no usable grant; there, another
        process may use a token for up to ``TOKENROTATE_CACHE_SECONDS`` more. Raises `StoreUnavailable`.
        """
        return sign_out_everywhere(current_state(), user_id)
