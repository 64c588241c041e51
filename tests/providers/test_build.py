"""A provider is made of the catalogue, the configuration and the keywords of `register`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_tokenrotate.errors import ConfigurationError
from flask_tokenrotate.provider import Provider
from flask_tokenrotate.providers.build import build_provider
from flask_tokenrotate.rotation.protocol import Policy
from flask_tokenrotate.rotation.tokens import Secret

SECRET = "s3cr3t-canary"
OWN: dict[str, Any] = {
    "client_id": "me",
    "client_secret": SECRET,
    "authorization_endpoint": "https://as.example/authorize",
    "token_endpoint": "https://as.example/token",
}
DEFAULTS = {"min_ttl": 30.0, "ahead": 300.0, "settle": 2.0}


def own(**fields: Any) -> Provider:
    return build_provider("acme", OWN, fields)


def test_later_layers_win() -> None:
    """Keywords of `register` win over the configuration, which wins over the catalogue."""
    config = {"CLIENT_ID": "from-config", "CLIENT_SECRET": SECRET, "SUBJECT_FIELD": "uri"}
    provider = build_provider("spotify", config, {"client_id": "from-register", "client_secret": None})
    assert (provider.client_id, provider.subject_field) == ("from-register", "uri")
    assert provider.client_secret == Secret(SECRET)
    assert provider.token_endpoint == "https://accounts.spotify.com/api/token"


def test_params_are_merged() -> None:
    """Adding one authorize parameter keeps those of the catalogue."""
    keywords = {"client_id": "me", "client_secret": SECRET, "authorize_params": {"hd": "example.com"}}
    params = build_provider("google", keywords).authorize_params
    assert params == {"access_type": "offline", "prompt": "consent", "hd": "example.com"}


def test_secret_is_never_shown() -> None:
    """Neither the profile's repr nor the error about another field shows the client secret."""
    assert SECRET not in repr(own(token_params={"audience": SECRET}))
    with pytest.raises(ConfigurationError) as caught:
        own(client_auth="digest")
    assert SECRET not in str(caught.value)
    assert own(client_secret=Secret("other")).client_secret == Secret("other")


@pytest.mark.parametrize("key", ["client_id", "authorization_endpoint", "token_endpoint"])
def test_missing_field_names_key_and_variable(key: str) -> None:
    """The error for a missing field says which variable to set."""
    layer = {name: value for name, value in OWN.items() if name != key}
    with pytest.raises(ConfigurationError, match=f"FLASK_TOKENROTATE_PROVIDERS__acme__{key.upper()}"):
        build_provider("acme", layer)


def test_confidential_client_needs_its_secret() -> None:
    """Without a secret only a client that calls itself public is accepted."""
    layer = {name: value for name, value in OWN.items() if name != "client_secret"}
    with pytest.raises(ConfigurationError, match="client_auth='none'"):
        build_provider("acme", layer)
    assert build_provider("acme", layer, {"client_auth": "none"}).client_secret is None


def test_unknown_field_names_the_closest() -> None:
    """A misspelt field is an error that names the right one."""
    with pytest.raises(ConfigurationError, match="Did you mean 'token_endpoint'"):
        own(token_endpiont="https://as.example/t")


@pytest.mark.parametrize("value", [["a", "b"], ("a", "b", "a"), "a b", " a  b "])
def test_scopes_as_list_or_string(value: object) -> None:
    """Scopes may be a list or a string with blanks; order is kept and doubles go."""
    assert own(scopes=value).scopes == ("a", "b")


def test_answer_rules_are_fields_of_the_profile() -> None:
    """What the parser has to know is given flat, beside the other fields."""
    rules = own(
        refused_errors=["dead"], busy_errors="later, soon", default_lifetime=900, scope_separators=","
    )
    assert rules.response_rules.refused_errors == {"dead"}
    assert rules.response_rules.busy_errors == {"later", "soon"}
    assert rules.response_rules.default_lifetime == 900.0
    assert rules.response_rules.scope_separators == ","


def test_numbers_from_the_environment_are_text_again() -> None:
    """A client id of digits, which the environment's reader makes a number, is used as it was."""
    assert own(client_id=1234567890123456789).client_id == "1234567890123456789"
    with pytest.raises(ConfigurationError, match="double quotes"):
        own(client_secret=1e99)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", 5),
        ("scopes", {"a": 1}),
        ("scopes", [1]),
        ("grace_seconds", -1),
        ("grace_seconds", float("nan")),
        ("ahead_seconds", "soon"),
        ("ahead_seconds", True),
        ("checks_iss", "yes"),
        ("on_unknown", "hope"),
        ("authorize_params", "a=b"),
        ("authorize_params", {"state": "mine"}),
        ("token_params", {"grant_type": "password"}),
        ("refused_errors", 7),
        ("token_endpoint", "http://as.example/token"),
        ("revocation_endpoint", "https://as.example/revoke#now"),
        ("client_id", ""),
    ],
)
def test_unusable_values_name_the_field(field: str, value: object) -> None:
    """A value that cannot work is refused when it is registered, by the name of its field."""
    with pytest.raises(ConfigurationError, match=field):
        own(**{field: value})


def test_iss_check_needs_an_issuer() -> None:
    """Requiring ``iss`` without an issuer to compare it with would refuse every callback."""
    with pytest.raises(ConfigurationError, match="issuer"):
        own(checks_iss=True)
    assert own(checks_iss=True, issuer="https://as.example").checks_iss


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "-a", "é", "a" * 65])
def test_names_fit_into_an_address(name: str) -> None:
    """The name is a part of the sign-in address, so it holds nothing that would need quoting."""
    with pytest.raises(ConfigurationError, match="name"):
        build_provider(name, OWN)


def test_tenant_parameters_fill_the_endpoints() -> None:
    """A tenanted entry of the catalogue takes its parameters as keywords, with defaults where it has some."""
    client = {"client_id": "me", "client_secret": SECRET}
    auth0 = build_provider("auth0", client, {"domain": "acme.eu.auth0.com"})
    assert (auth0.issuer, auth0.token_endpoint) == (
        "https://acme.eu.auth0.com/",
        "https://acme.eu.auth0.com/oauth/token",
    )
    okta = build_provider("okta", client, {"DOMAIN": "acme.okta.com"})
    assert okta.token_endpoint == "https://acme.okta.com/oauth2/default/v1/token"
    keycloak = build_provider("keycloak", client, {"base_url": "http://localhost:8080/", "realm": "demo"})
    assert keycloak.issuer == "http://localhost:8080/realms/demo"


@pytest.mark.parametrize(
    "domain", [None, "https://acme.auth0.com", "acme.auth0.com/x", "a@b", "a b", "a?b", "a#b", 5]
)
def test_unusable_tenant_parameter(domain: object) -> None:
    """A domain that is missing, has a scheme or would change the URL's meaning is refused by name."""
    with pytest.raises(ConfigurationError, match="domain"):
        build_provider("auth0", {"client_id": "me", "client_secret": SECRET, "domain": domain})


def test_preset_under_another_name() -> None:
    """Two tenants of one provider are two names with one preset."""
    client = {"client_id": "me", "client_secret": SECRET}
    provider = build_provider("work", client, {"preset": "microsoft", "tenant": "contoso"})
    assert provider.name == "work"
    assert "/contoso/" in provider.token_endpoint
    with pytest.raises(ConfigurationError, match="no preset 'microsft'"):
        build_provider("work", client, {"preset": "microsft"})


def test_other_endpoints_drop_all_of_the_catalogue() -> None:
    """Tokens of a stand-in for Spotify must not be shown to Spotify's own userinfo endpoint."""
    provider = build_provider("spotify", OWN)
    assert provider.userinfo_endpoint is None
    assert provider.subject_field == "id"
    assert build_provider("auth0", OWN).issuer is None


def test_policy_takes_the_settings_and_lets_the_profile_win() -> None:
    """The settings are defaults; a field of the profile overrides its own."""
    assert own().policy(**DEFAULTS) == Policy(min_ttl=30, ahead=300, on_unknown="replay", settle=2)
    fields = {"min_ttl_seconds": 5, "ahead_seconds": 60, "on_unknown": "reauthorize", "grace_seconds": 30}
    profile = Policy(min_ttl=5, ahead=60, on_unknown="reauthorize", settle=2, grace=30)
    assert own(**fields).policy(**DEFAULTS) == profile


def test_no_ahead_window_where_a_rotation_kills_the_access_token() -> None:
    """Rotating early at such a provider would break the requests that use the old token just then."""
    assert own(rotation_kills_access_token=True).policy(**DEFAULTS).ahead == 0
    assert own(rotation_kills_access_token=True, ahead_seconds=9).policy(**DEFAULTS).ahead == 9


def test_a_replay_does_not_settle_past_the_grace() -> None:
    """After the provider's grace a replay is worth nothing, so it comes before."""
    assert own(grace_seconds=0.5).policy(**DEFAULTS).settle == 0.5


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)
keys = st.sampled_from([*Provider.__dataclass_fields__, "preset", "refused_errors", "default_lifetime"])


@given(st.dictionaries(keys | st.text(max_size=8), anything, max_size=5))
def test_any_configuration_is_accepted_or_refused(fields: dict[str, Any]) -> None:
    """No configuration makes the builder raise anything but `ConfigurationError`, nor show the secret."""
    try:
        shown = repr(build_provider("acme", OWN, fields))
    except ConfigurationError as error:
        shown = str(error)
    assert SECRET not in shown
