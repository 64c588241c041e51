"""`TokenRotate`: the extension object.

What it is made of is imported when an application is set up (`wiring`), so that an import alone is quick.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from flask import Flask, has_request_context

from .errors import ConfigurationError, SignInRequired
from .rotation.memo import RequestMemo
from .web.current_token import CurrentToken, token_of_grant
from .web.request_grants import forget_request, request_grants
from .web.sign_in import add_grant, check_user_id, sign_in, sign_out, sign_out_everywhere
from .web.state import EXTENSION, current_state

if TYPE_CHECKING:
    from .application_engine import ApplicationEngine
    from .providers.options import ProviderOptions
    from .rotation.ports import GrantStore
    from .rotation.tokens import Grant
    from .web.state import Identify


class TokenRotate:
    """Keeps the OAuth 2 tokens of signed-in users fresh.

    Make one unbound object and call `init_app` in the application factory; one object serves any
    number of applications, whose state lives in ``app.extensions["tokenrotate"]``.

    ``engine`` is a SQLAlchemy engine or a Flask-SQLAlchemy object to keep the grants on, in place of
    the extension's own engine (``TOKENROTATE_DATABASE_URI``). Only its engine is used, never its
    session: nothing of the application's is committed or rolled back.

    ``store`` keeps the grants elsewhere: an object with the methods of `rotation.ports.GrantStore`. Sign-in
    attempts and the extension's own sessions stay in the database, and so do the commands that read it
    (``history``, ``verify``, ``prune-ledger``, ``rotate-keys``). Requests that wait for another process
    read such a store now and then, as nothing notifies them.
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
        self._registered: dict[str, dict[str, Any]] = {}
        self._identify: Identify | None = None
        if app is not None:
            self.init_app(app)

    def init_app(
        self, app: Flask, *, engine: ApplicationEngine | None = None, store: GrantStore | None = None
    ) -> None:
        """Set the extension up for ``app``: no network, no database connection and no table yet.

        Reads the ``TOKENROTATE_*`` keys (see `Settings`). Raises `ConfigurationError` when one of them
        cannot work, or when the application has the extension already.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError(f"TokenRotate is set up for the application {app.name!r} already.")
        from .wiring import set_up

        store = self._store if store is None else store
        set_up(app, engine or self._engine, store, self._registered, lambda: self._identify)

    def register(self, name: str, **options: Unpack[ProviderOptions]) -> None:
        """Register a provider, before or after `init_app`.

        ``name`` selects an entry of the catalogue where there is one; ``options`` add to it or override
        it: ``client_id``, ``client_secret``, ``scopes`` and so on (`ProviderOptions`). Options that are
        not given here may come from ``TOKENROTATE_PROVIDERS`` or the environment.

        Raises `ConfigurationError` for an option that does not exist, with the nearest that does. Values
        that cannot work raise it when the provider is first used.
        """
        from .providers.options import check_options

        check_options(name, options)
        self._registered[name] = dict(options)

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

        ``token_response`` is the token endpoint's response, or a token that another library stored
        (``expires_at`` is honoured). Inside a request the session is signed in with the new grant.
        Raises `InvalidTokenResponse` when there is no access token in it.
        """
        from .rotation.adoption import adopted

        state = current_state()
        response = adopted(token_response, state.provider(provider).response_rules, wall_clock=time.time())
        if has_request_context():
            return sign_in(state, provider, response, None, {}, user_id=user_id)
        return add_grant(state, provider, response, None, {}, user_id=user_id)

    def token(self, grant_id: str) -> CurrentToken:
        """Return the fresh token of a grant: for Celery, RQ, cron and scripts, in an app context.

        A rotation that is due is done before this returns, also ahead of the token's expiry: nothing is left
        to go on in the background of a job. Raises what `require_fresh_token` raises.
        """
        state = current_state()
        if has_request_context():
            grants = request_grants()
            grants.of_grant(grant_id)  # raises now rather than at first use
            return token_of_grant(state, grants.memo, lambda: grants.of_grant(grant_id))
        memo = RequestMemo()
        memo.fresh(state.rotation.tokens, grant_id, here=True)
        return token_of_grant(state, memo, lambda: memo.fresh(state.rotation.tokens, grant_id, here=True))

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
        current_state().rotation.ending.expire(grant_id)

    def sign_out(self, provider: str | None = None) -> bool:
        """Sign the current session out of ``provider`` and return whether it was signed in there.

        Ends the grant, then revokes its tokens at the provider, which may be down.
        """
        state = current_state()
        return sign_out(state, state.provider_name(provider))

    def sign_out_grant(self, grant_id: str) -> bool:
        """End a grant by its id, in whichever session it is; otherwise as `sign_out`."""
        ended = current_state().rotation.ending.sign_out(grant_id)
        forget_request()
        return ended

    def sign_out_everywhere(self, user_id: str) -> int:
        """End all grants of the user, and the sessions that the extension keeps; return how many grants.

        All in one transaction (with a ``store`` of your own: grant by grant, at the registered providers), by
        the user ids of `identify`; then the tokens are revoked at the
        providers, which may be down. Sessions that Flask-Session keeps live on, without a usable grant.
        Other processes may use a token for up to ``TOKENROTATE_CACHE_SECONDS`` more.
        """
        return sign_out_everywhere(current_state(), user_id)
