"""What the token endpoint meant: recorded responses, and a search for bytes that break the parser."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_tokenrotate.rotation.http_response import MAX_RETRY_AFTER, HttpResponse, NoResponse
from flask_tokenrotate.rotation.token_response import MAX_LIFETIME, ResponseRules
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.rotation.verdict import (
    Busy,
    Misconfigured,
    NotSent,
    Refused,
    Rotated,
    Unknown,
    Verdict,
    verdict,
)

RULES = ResponseRules()
GITHUB = ResponseRules(refused_errors=frozenset({"invalid_grant", "bad_refresh_token"}))
SLACK = ResponseRules(refused_errors=frozenset({"invalid_grant", "invalid_refresh_token"}))
HYDRA = ResponseRules(busy_errors=frozenset({"invalid_request"}))
METABASE = ResponseRules(refused_errors=frozenset({"invalid_grant", "invalid_request"}))
SPENDS_ON_500 = ResponseRules(server_error_means="unknown")
EMPTY_IS_DEAD = ResponseRules(empty_refusal="refused")
TOKENS = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "rt-2"}
PAGE = b"<!doctype html><title>Blocked</title>"


def response(
    status: int, body: bytes | object = b"", content_type: str = "application/json", **headers: str
) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return HttpResponse(status=status, headers={"Content-Type": content_type, **names}, body=raw)


def form(
    status: int, fields: dict[str, str], content_type: str = "application/x-www-form-urlencoded"
) -> HttpResponse:
    return response(status, urlencode(fields).encode(), content_type)


def rotated(body: object, rules: ResponseRules = RULES) -> Rotated:
    result = verdict(response(200, body), rules)
    assert isinstance(result, Rotated)
    return result


SHAPES: list[tuple[str, HttpResponse | NoResponse, ResponseRules, type, str | None]] = [
    # name, outcome, rules, verdict, its error or cause
    ("refused connection", NoResponse(sent=False, cause="connect"), RULES, NotSent, "connect"),
    ("lost response", NoResponse(sent=True, cause="read"), RULES, Unknown, "read"),
    ("plain rotation", response(200, TOKENS), RULES, Rotated, None),
    ("201 with tokens", response(201, TOKENS), RULES, Rotated, None),
    ("form-encoded", form(200, {"access_token": "a", "scope": "x"}), RULES, Rotated, None),
    ("form as text/plain", form(200, {"access_token": "a"}, "text/plain"), RULES, Rotated, None),
    ("JSON as text/html", response(200, TOKENS, "text/html"), RULES, Rotated, None),
    ("JSON with a BOM", response(200, b"\xef\xbb\xbf" + json.dumps(TOKENS).encode()), RULES, Rotated, None),
    ("400 invalid_grant", response(400, {"error": "invalid_grant"}), RULES, Refused, "invalid_grant"),
    ("Auth0's 403", response(403, {"error": "invalid_grant"}), RULES, Refused, "invalid_grant"),
    ("401 invalid_grant", response(401, {"error": "invalid_grant"}), RULES, Refused, "invalid_grant"),
    ("form refusal", form(400, {"error": "invalid_grant"}), RULES, Refused, "invalid_grant"),
    ("GitHub's 200", response(200, {"error": "bad_refresh_token"}), GITHUB, Refused, "bad_refresh_token"),
    ("GitHub's form", form(200, {"error": "bad_refresh_token"}), GITHUB, Refused, "bad_refresh_token"),
    (
        "Slack's 200",
        response(200, {"ok": False, "error": "invalid_refresh_token"}),
        SLACK,
        Refused,
        "invalid_refresh_token",
    ),
    ("nested code", response(400, {"error": {"code": "invalid_grant"}}), RULES, Refused, "invalid_grant"),
    ("Hydra's retry", response(400, {"error": "invalid_request"}), HYDRA, Busy, "invalid_request"),
    ("Metabase's dead", response(400, {"error": "invalid_request"}), METABASE, Refused, "invalid_request"),
    ("invalid_request", response(400, {"error": "invalid_request"}), RULES, Misconfigured, "invalid_request"),
    (
        "busy code",
        response(400, {"error": "temporarily_unavailable"}),
        RULES,
        Busy,
        "temporarily_unavailable",
    ),
    ("429", response(429, retry_after="7"), RULES, Busy, "http_429"),
    ("429 that says invalid_grant", response(429, {"error": "invalid_grant"}), RULES, Busy, "http_429"),
    ("Supabase's 409", response(409, {"msg": "Too many"}), RULES, Busy, "http_409"),
    ("503", response(503, PAGE, "text/html"), RULES, Busy, "http_503"),
    ("503 with a token inside", response(503, TOKENS), RULES, Busy, "http_503"),
    ("500", response(500), RULES, Busy, "http_500"),
    ("500 invalid_grant", response(500, {"error": "invalid_grant"}), RULES, Busy, "http_500"),
    ("500 that spends", response(500), SPENDS_ON_500, Unknown, "http_500"),
    ("503 of one that spends", response(503), SPENDS_ON_500, Busy, "http_503"),
    (
        "401 invalid_client",
        response(401, {"error": "invalid_client"}),
        RULES,
        Misconfigured,
        "invalid_client",
    ),
    ("400 unauthorized_client", response(400, {"error": "unauthorized_client"}), RULES, Misconfigured, None),
    (
        "unsupported_grant_type",
        response(400, {"error": "unsupported_grant_type"}),
        RULES,
        Misconfigured,
        None,
    ),
    ("invalid_scope", response(400, {"error": "invalid_scope"}), RULES, Misconfigured, "invalid_scope"),
    ("a code of its own", response(400, {"error": "consent_gone"}), RULES, Misconfigured, "consent_gone"),
    ("401 without a code", response(401), RULES, Misconfigured, "http_401"),
    ("307", response(307, location="https://elsewhere.example/"), RULES, Misconfigured, "http_307"),
    ("404", response(404, {"message": "Not Found"}), RULES, Misconfigured, "http_404"),
    ("firewall page", response(403, PAGE, "text/html"), RULES, Misconfigured, "http_403"),
    ("400 page", response(400, PAGE, "text/html"), RULES, Misconfigured, "http_400"),
    ("empty 400", response(400), RULES, Unknown, "http_400"),
    ("empty 400 that means dead", response(400), EMPTY_IS_DEAD, Refused, "http_400"),
    ("400 in words", response(400, b"bad token", "text/plain"), EMPTY_IS_DEAD, Refused, "http_400"),
    ("200 page", response(200, PAGE, "text/html"), RULES, Unknown, "unreadable_response"),
    ("200 array", response(200, [TOKENS]), RULES, Unknown, "unreadable_response"),
    ("200 empty", response(200), RULES, Unknown, "unreadable_response"),
    (
        "200 without a token",
        response(200, {"ok": True, "error": None}),
        RULES,
        Unknown,
        "unreadable_response",
    ),
    ("token of another type", response(200, {"access_token": ["a"]}), RULES, Unknown, "unreadable_response"),
    ("token of blanks", response(200, {"access_token": " "}), RULES, Unknown, "unreadable_response"),
    ("token of surrogates", response(200, {"access_token": "\ud800"}), RULES, Unknown, "unreadable_response"),
    ("204", response(204), RULES, Unknown, "unreadable_response"),
    ("no such status", response(999), RULES, Unknown, "unreadable_response"),
    ("nested too deep", response(200, b'{"a":' * 100_000), RULES, Unknown, "unreadable_response"),
    (
        "cut JSON",
        HttpResponse(status=200, body=b'{"access_token": "abc', complete=False),
        RULES,
        Unknown,
        "unreadable_response",
    ),
    (
        "cut form",
        HttpResponse(status=200, body=b"refresh_token=r&access_token=ab", complete=False),
        RULES,
        Unknown,
        "unreadable_response",
    ),
    (
        "2 MB body, cut at the limit",
        HttpResponse(status=200, body=b'{"x": "' + b"y" * 2**20, complete=False),
        RULES,
        Unknown,
        "unreadable_response",
    ),
]


@pytest.mark.parametrize(
    ("outcome", "rules", "kind", "code"),
    [pytest.param(*shape[1:], id=shape[0]) for shape in SHAPES],
)
def test_recorded_shapes(
    outcome: HttpResponse | NoResponse, rules: ResponseRules, kind: type[Verdict], code: str | None
) -> None:
    """Each recorded response has the verdict of the module's table."""
    result = verdict(outcome, rules)
    assert type(result) is kind
    if code is not None:
        assert code in (getattr(result, "error", None), getattr(result, "cause", None))
    if isinstance(result, Misconfigured):
        assert result.cure


def test_the_same_refusal_is_none_under_other_rules() -> None:
    """GitHub's code ends a grant only because GitHub's profile says so."""
    outcome = response(200, {"error": "bad_refresh_token"})
    assert verdict(outcome, GITHUB) == Refused(error="bad_refresh_token")
    assert isinstance(verdict(outcome, RULES), Misconfigured)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),
        ("3600.5", 3600.5),
        (" 60 ", 60.0),
        (0.25, 0.25),
        (10**30, MAX_LIFETIME),
        ("1e12", MAX_LIFETIME),
    ],
)
def test_usable_lifetimes(value: object, seconds: float) -> None:
    """A positive number is taken as it is, in digits or in a string, and a far future is cut."""
    result = rotated({**TOKENS, "expires_in": value})
    assert (result.response.expires_in, result.complaints) == (seconds, ())


@pytest.mark.parametrize(
    "value", ["", "abc", 0, "0", -1, "-5", None, True, [], {}, "1_0", "NaN", "१२", float("nan"), float("inf")]
)
def test_unusable_lifetimes_mean_unknown(value: object) -> None:
    """A lifetime that is no positive number costs the lifetime and never the tokens."""
    result = rotated({**TOKENS, "expires_in": value})
    assert result.response.expires_in is None
    assert result.response.refresh_token == Secret("rt-2")
    assert result.complaints == ("expires_in is not a usable number of seconds",)
    default = rotated({**TOKENS, "expires_in": value}, ResponseRules(default_lifetime=900.0))
    assert default.response.expires_in == 900.0


def test_a_number_of_thousands_of_digits_costs_only_itself() -> None:
    """Python refuses to parse such an integer; the tokens beside it are kept all the same."""
    body = b'{"access_token": "at-1", "expires_in": ' + b"9" * 10_000 + b"}"
    result = verdict(response(200, body), RULES)
    assert isinstance(result, Rotated)
    assert result.response.expires_in is None


def test_missing_lifetime_is_no_oddity() -> None:
    """RFC 6749 section 5.1 lets ``expires_in`` be left out: unknown, without a complaint."""
    result = rotated({"access_token": "at-1"})
    assert (result.response.expires_in, result.complaints) == (None, ())


def test_milliseconds() -> None:
    """A profile can say that its lifetimes are milliseconds."""
    result = rotated({**TOKENS, "expires_in": 3_600_000}, ResponseRules(expires_in_unit="milliseconds"))
    assert result.response.expires_in == 3600.0


@pytest.mark.parametrize("fields", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_no_refresh_token_in_the_response(fields: dict[str, object]) -> None:
    """Absent, null and empty all mean that the stored refresh token stays (RFC 6749 section 6)."""
    result = rotated({"access_token": "at-1", **fields})
    assert (result.response.refresh_token, result.complaints) == (None, ())


@pytest.mark.parametrize("value", [7, ["rt"], "\udfff"])
def test_unusable_refresh_token(value: object) -> None:
    """A refresh token that cannot be posted is left out with a complaint; the access token stays."""
    result = rotated({"access_token": "at-1", "refresh_token": value})
    assert result.response.refresh_token is None
    assert result.complaints == ("refresh_token is not a usable string",)


@pytest.mark.parametrize(
    ("value", "separators", "scopes"),
    [
        ("read write", " ", {"read", "write"}),
        ("read,write", ",", {"read", "write"}),
        ("read,write", " ", {"read,write"}),
        ("read", " ", {"read"}),
        (["read", "admin"], " ", {"read", "admin"}),
        ("", " ", set()),
    ],
)
def test_scopes(value: object, separators: str, scopes: set[str]) -> None:
    """Whatever scope came back, narrower or wider, is reported and never refused."""
    result = rotated({**TOKENS, "scope": value}, ResponseRules(scope_separators=separators))
    assert (result.response.scopes, result.complaints) == (frozenset(scopes), ())


def test_unreadable_scope() -> None:
    """A scope that is neither string nor list of strings is unknown, with a complaint."""
    result = rotated({**TOKENS, "scope": {"a": 1}})
    assert (result.response.scopes, result.complaints) == (None, ("scope is unreadable",))
    assert rotated(TOKENS).response.scopes is None


@pytest.mark.parametrize("name", ["scope", "token_type"])
def test_a_token_in_a_public_field_is_not_passed_on(name: str) -> None:
    """Scope and token type are stored and logged, so a token that a server repeats there is dropped."""
    token = "aToken"
    assert token not in repr(rotated({"access_token": token, name: token}))
    assert token in repr(rotated({"access_token": "another", name: token}))


@pytest.mark.parametrize(
    ("value", "token_type", "complaints"),
    [
        ("bEARER", "Bearer", 0),
        (None, "Bearer", 0),
        ("", "Bearer", 0),
        ("DPoP", "DPoP", 1),
        ("MAC", "MAC", 1),
        (5, "unreadable", 1),
        ("x" * 200, "unreadable", 1),
    ],
)
def test_token_types(value: object, token_type: str, complaints: int) -> None:
    """Bearer is recognised in any case; another type is kept with a complaint, not raised."""
    result = rotated({**TOKENS, "token_type": value})
    assert (result.response.token_type, len(result.complaints)) == (token_type, complaints)


@pytest.mark.parametrize(
    "name", ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"]
)
def test_refresh_token_lifetime(name: str) -> None:
    """The refresh token's own lifetime is read under the names that providers give it."""
    assert rotated({**TOKENS, name: "1800"}).response.refresh_expires_in == 1800.0
    assert rotated({**TOKENS, name: 0}).response.refresh_expires_in is None


def test_oddities_are_reported_and_the_tokens_kept() -> None:
    """Save first, complain later: a cut after the tokens, an error beside them, a strange character."""
    body = json.dumps({"access_token": "at-é", "error": "weird"}).encode()
    result = verdict(HttpResponse(status=200, body=body, complete=False), RULES)
    assert isinstance(result, Rotated)
    assert result.response.access_token == Secret("at-é")
    assert len(result.complaints) == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": " 0 "}, 0.0),
        ({"retry_after": "999999"}, MAX_RETRY_AFTER),
        ({}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "1.5"}, None),
        ({"retry_after": "9" * 400}, None),
        ({"retry_after": "Tue, 01 Sep 2026 10:00:30 GMT", "date": "Tue, 01 Sep 2026 10:00:00 GMT"}, 30.0),
        ({"retry_after": "Tue, 01 Sep 2026 09:00:00 GMT", "date": "Tue, 01 Sep 2026 10:00:00 GMT"}, 0.0),
        ({"retry_after": "Tue, 01 Sep 2026 10:00:30 GMT"}, None),
        ({"retry_after": "Tue, 01 Sep 2026 10:00:30 -0000", "date": "Tue, 01 Sep 2026 10:00:00 GMT"}, None),
        ({"retry_after": "Tue, 99 Sep 99999 10:00:30 GMT", "date": "Tue, 01 Sep 2026 10:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds or a date against the response's own clock; junk means that the provider said nothing."""
    assert verdict(response(503, **headers), RULES) == Busy(cause="http_503", retry_after=seconds)


def test_a_read_timeout_is_distinguished() -> None:
    """The holder must know whether the response timed out: then a replay has to settle first."""
    timed_out = verdict(NoResponse(sent=True, cause="read", timed_out=True), RULES)
    assert timed_out == Unknown(cause="read", timed_out=True)


@pytest.mark.parametrize(
    "code", ["x" * 65, "bad\r\nlog line", 'say "no"', "rt-8Hq2Zk41", 17, ["invalid_grant"], "naïve"]
)
def test_hostile_error_codes_are_not_passed_on(code: object) -> None:
    """A code goes into logs, so one that is not made of plain words is replaced."""
    result = verdict(response(400, {"error": code}), RULES)
    assert isinstance(result, Misconfigured)
    assert result.error == "unreadable"


CANARY = "canary-7f3a-Q9"
leaves = st.one_of(
    st.just(CANARY),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["invalid_grant", "Bearer", "3600", "a b"]),
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
names = st.sampled_from(
    [
        "access_token",
        "refresh_token",
        "id_token",
        "error",
        "error_code",
        "error_description",
        "expires_in",
        "refresh_expires_in",
        "token_type",
        "scope",
        "ok",
    ]
)
objects = st.dictionaries(names | st.text(max_size=5), values, max_size=8)
bodies = st.one_of(
    st.binary(max_size=200),
    objects.map(lambda fields: json.dumps(fields).encode()),
    objects.map(lambda fields: urlencode(fields, errors="replace").encode()),
    st.tuples(objects, st.binary(max_size=10)).map(lambda pair: json.dumps(pair[0]).encode() + pair[1]),
)
header_values = st.text(max_size=30) | st.just(CANARY)
rule_sets = st.sampled_from(
    [RULES, GITHUB, HYDRA, SPENDS_ON_500, EMPTY_IS_DEAD, ResponseRules(scope_separators=", ")]
)


@given(
    status=st.integers(0, 999) | st.sampled_from([200, 400, 401, 503]),
    body=bodies,
    headers=st.dictionaries(
        st.sampled_from(["Content-Type", "content-type", "Retry-After", "Date"]),
        header_values | st.sampled_from(["application/json", "application/x-www-form-urlencoded"]),
        max_size=4,
    ),
    complete=st.booleans(),
    rules=rule_sets,
)
def test_never_raises_and_never_leaks(
    status: int, body: bytes, headers: dict[str, str], complete: bool, rules: ResponseRules
) -> None:
    """No bytes make the parser raise, and no verdict prints what the body called a token or a code."""
    # A scope or token type is meant to be printed, so the canary counts there only when it is also a token.
    outcome = HttpResponse(status=status, headers=headers, body=body, complete=complete)
    result = verdict(outcome, rules)
    public = isinstance(result, Rotated) and CANARY not in {
        token.reveal() for token in (result.response.access_token, result.response.refresh_token) if token
    }
    assert public or CANARY not in f"{result!r} {result} {outcome!r}"
