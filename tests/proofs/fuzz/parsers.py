"""Every parser of outside data: what it is fed with, and what must hold for whatever comes.

A target is a strategy and a function. The function returns nothing; an exception outside our error
tree, or a failed assertion, is the defect that the search is for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask import Flask, request
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from flask_tokenrotate.config import Settings
from flask_tokenrotate.errors import ConfigurationError, SignInFailed, TokenRotateError
from flask_tokenrotate.providers.build import build_provider
from flask_tokenrotate.rotation.adoption import adopted
from flask_tokenrotate.rotation.id_token import is_another_user, read_claims
from flask_tokenrotate.rotation.token_response import ResponseRules
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.rotation.verdict import HttpResponse, Rotated, verdict
from flask_tokenrotate.storage import attempts
from flask_tokenrotate.storage.sealed import rescue_files as rescue
from flask_tokenrotate.storage.sealed.content import Malformed
from flask_tokenrotate.storage.sealed.sealing import DoesNotOpen, Sealer, sealer_from
from flask_tokenrotate.web import browser_binding, views
from flask_tokenrotate.web.callback_errors import provider_error
from flask_tokenrotate.web.cross_site import is_cross_site
from flask_tokenrotate.web.urls import safe_next
from tests.attacks.browser_urls import origin

words = st.text(max_size=20) | st.sampled_from(["", "a" * 5000, "\x00", "\ud800", "é", "null", "-1", "1e999"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
_fields = ["access_token", "refresh_token", "id_token", "token_type", "scope", "expires_in", "error"]
_fields += ["refresh_expires_in", "expires_at", "error_code", "ok"]
token_fields = st.fixed_dictionaries({}, optional=dict.fromkeys(_fields, json_values))
content_types = st.sampled_from(
    ["application/json", "text/html", "application/x-www-form-urlencoded", "", "é"]
)
bodies = (
    st.binary(max_size=80)
    | token_fields.map(lambda fields: json.dumps(fields).encode())
    | st.lists(
        st.tuples(st.sampled_from(["access_token", "error", "expires_in", "x"]), words), max_size=5
    ).map(lambda pairs: urlencode(pairs, errors="replace").encode())
)


@dataclass(frozen=True)
class Target:
    """A parser with its inputs; ``check`` is called with one of them."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


def _token_answer(given: tuple[int, str, bytes, bool]) -> None:
    status, content_type, body, complete = given
    headers = {"Content-Type": content_type, "Retry-After": content_type}
    seen = verdict(
        HttpResponse(status=status, headers=headers, body=body, complete=complete), ResponseRules()
    )
    if isinstance(seen, Rotated):
        seen.response.access_token.reveal().encode()
        assert seen.response.access_token.reveal() not in seen.complaints


def _good_answer_with_odd_rest(rest: dict[str, Any]) -> None:
    """Whatever else is in the response, the two tokens are kept."""
    body = json.dumps({**rest, "access_token": "good-access", "refresh_token": "good-refresh"}).encode()
    seen = verdict(
        HttpResponse(status=200, headers={"Content-Type": "application/json"}, body=body), ResponseRules()
    )
    assert isinstance(seen, Rotated)
    assert seen.response.access_token == Secret("good-access")
    assert seen.response.refresh_token == Secret("good-refresh")


def _adopted(response: Any) -> None:
    with suppress(TokenRotateError):
        adopted(response, ResponseRules(), wall_clock=1e9)


def _id_token(token: str) -> None:
    claims = read_claims(Secret(token))
    assert claims is None or isinstance(claims, dict)
    assert not is_another_user(Secret(token), Secret(token)) or claims != claims  # NaN differs from itself


def _next(address: str) -> None:
    assert origin(safe_next(address)) == "https://app.example"


_app = Flask("fuzz")
_app.register_blueprint(views.blueprint, url_prefix="/auth")
_settings = Settings()


class _State:
    settings = _settings


def _callback(given: tuple[bytes, str]) -> None:
    query, cookie = given
    environ = EnvironBuilder(path="/auth/fake/callback").get_environ()
    environ["QUERY_STRING"] = query.decode("latin-1")
    environ["HTTP_COOKIE"] = cookie.encode("utf-8", "replace").decode("latin-1")
    with _app.request_context(environ), suppress(SignInFailed):
        views.refuse_raw_bytes()
        browser = browser_binding.browser_id(Secret(request.args.get("state", "")))
        assert browser is None or len(browser.reveal()) == 43
        for name, value in views._callback_parameters("fake").items():
            assert len(value) <= views._LONGEST[name]
            value.encode()
        views._step_up_scopes()
        assert "<" not in str(provider_error("fake", request.args.get("error")))


def _origin_headers(given: dict[str, str]) -> None:
    environ = EnvironBuilder(path="/", base_url="http://app.example").get_environ()
    for name, value in given.items():
        environ[name] = value.encode("utf-8", "replace").decode("latin-1")
    with _app.request_context(environ):
        ours = given.get("HTTP_SEC_FETCH_SITE") in ("same-origin", "none")
        ours = ours or ("HTTP_SEC_FETCH_SITE" not in given and "HTTP_ORIGIN" not in given)
        ours = ours or (
            "HTTP_SEC_FETCH_SITE" not in given and given["HTTP_ORIGIN"].partition("://")[2] == "app.example"
        )
        assert is_cross_site(_State()) is not ours  # type: ignore[arg-type]


def _config(given: dict[str, Any]) -> None:
    with suppress(ConfigurationError):
        Settings.from_config(given)


def _profile(given: dict[str, Any]) -> None:
    with suppress(ConfigurationError):
        build_provider("fuzz", given, {})


def _keys(keys: Any) -> None:
    with suppress(ConfigurationError):
        settings = Settings.from_config({"TOKENROTATE_ENCRYPTION_KEYS": keys})
        sealer_from(settings.encryption_keys, "secret")


_sealer = Sealer([b"k" * 32])
_good = _sealer.seal(b"tokens", ("grant", "1"))


def _sealed(given: tuple[bytes, int, int, list[str | None]]) -> None:
    garbage, position, flip, bound_to = given
    position %= len(_good)
    changed = _good[:position] + bytes([_good[position] ^ flip]) + _good[position + 1 :]
    for sealed in (garbage, changed, _good[:position]):
        try:
            _sealer.open(sealed, bound_to)
        except DoesNotOpen:
            continue
        raise AssertionError("something else than what was sealed has opened")
    assert _sealer.open(_good, ("grant", "1")) == b"tokens"


def _rescue_file(facts: Any) -> None:
    """Whatever a valid seal holds, it comes back as it was written or is `Malformed`."""
    plain = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    with suppress(Malformed):
        unsaved = rescue._read_back(plain, "g", "c")
        assert rescue._read_back(rescue._written_out(unsaved), "g", "c") == unsaved


def _attempt(facts: Any) -> None:
    plain = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    with suppress(Malformed):
        attempt = attempts._read_back(plain)
        assert attempts._read_back(attempts._written_out(attempt)) == attempt


_whole = {
    "access_token": "a",
    "refresh_token": None,
    "token_type": "bearer",
    "scopes": ["x"],
    "id_token": None,
}


def _almost(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with the keys of ``whole`` whose values are right more often than not."""
    return st.fixed_dictionaries(
        {key: st.just(value) | st.just(value) | json_values for key, value in whole.items()}
    )


_rescued = {
    "grant": ["g", "p", None, "s"],
    "claim": ["c", 3, 1],
    "http_status": 200,
    "times": [1.0, None, 2.0],
}
_rescued_facts = st.builds(
    lambda facts, tokens: {**facts, "tokens": tokens}, _almost(_rescued), _almost(_whole) | json_values
)
_attempted = {
    "provider": "p",
    "verifier": "v",
    "nonce": "n",
    "redirect_uri": "r",
    "next_url": "/",
    "scopes": ["x"],
}

_query = st.binary(max_size=60) | st.lists(
    st.tuples(st.sampled_from(["state", "code", "iss", "error", "scope", "next"]), words), max_size=6
).map(lambda pairs: urlencode(pairs, errors="replace").encode())
_names = [f"TOKENROTATE_{name.upper()}" for name in Settings.__dataclass_fields__]
_profile_fields = st.sampled_from(
    ["client_id", "client_secret", "authorization_endpoint", "token_endpoint", "issuer", "scopes", "answers",
     "client_auth", "on_unknown", "grace_seconds", "checks_iss", "authorize_params", "refused_errors", "zzz"]
)  # fmt: skip
_endpoint = words | st.sampled_from(
    ["https://a.example/x", "http://[::1", "https://a:b@c/", "https://a.example:x/"]
)

TARGETS: dict[str, Target] = {
    "token answer": Target(
        st.tuples(st.integers(100, 599), content_types, bodies, st.booleans()), _token_answer
    ),
    "odd answer": Target(token_fields, _good_answer_with_odd_rest),
    "adopted": Target(token_fields | json_values, _adopted),
    "id token": Target(words | st.binary(max_size=60).map(lambda b: f"e30.{b.hex()}."), _id_token),
    "next": Target(st.text(max_size=40), _next),
    "callback": Target(st.tuples(_query, words | words.map(lambda w: f"tokenrotate={w}")), _callback),
    "origin headers": Target(
        st.dictionaries(
            st.sampled_from(["HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE"]),
            words | st.sampled_from(["same-origin", "none", "http://app.example", "https://evil.example"]),
        ),
        _origin_headers,
    ),
    "config": Target(st.dictionaries(st.sampled_from(_names), json_values, max_size=4), _config),
    "profile": Target(st.dictionaries(_profile_fields, json_values | _endpoint, max_size=8), _profile),
    "keys": Target(json_values | st.lists(words, max_size=3), _keys),
    "rescue file": Target(_rescued_facts | json_values | st.binary(max_size=60), _rescue_file),
    "attempt": Target(_almost(_attempted) | json_values | st.binary(max_size=60), _attempt),
    "sealed": Target(
        st.tuples(
            st.binary(max_size=80),
            st.integers(0, 500),
            st.integers(1, 255),
            st.lists(st.none() | st.text(max_size=5), max_size=3),
        ),
        _sealed,
    ),
}
