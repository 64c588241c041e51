"""The keywords of `register`: the right ones are typed, the others refused at once."""

from __future__ import annotations

from dataclasses import fields

import pytest

from flask_tokenrotate import ConfigurationError, TokenRotate
from flask_tokenrotate.provider import Provider
from flask_tokenrotate.providers.build import READERS
from flask_tokenrotate.providers.catalogue import CATALOGUE, Parameters
from flask_tokenrotate.providers.options import ProviderOptions
from flask_tokenrotate.rotation.token_response import ResponseRules

FACTS = {each.name for each in fields(Provider)} - {"name", "response_rules"}
RULES = {each.name for each in fields(ResponseRules)}
PARAMETERS = {key for entry in CATALOGUE.values() for key in entry.parameters}


def test_options_readers_and_fields_are_the_same() -> None:
    """A field of a profile can be registered, is read, and an editor knows it."""
    assert READERS.keys() == FACTS | RULES
    assert set(Parameters.__annotations__) == PARAMETERS
    assert set(ProviderOptions.__annotations__) == FACTS | RULES | PARAMETERS | {"preset"}
    assert not PARAMETERS & (FACTS | RULES)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("clientid", "client_id"),
        ("token_endpiont", "token_endpoint"),
        ("scope", "scopes"),
        ("tennant", "tenant"),
        ("default_lifetme", "default_lifetime"),
    ],
)
def test_an_unknown_option_is_refused_at_once(given: str, nearest: str) -> None:
    """At the call, with the nearest correct name."""
    with pytest.raises(ConfigurationError, match=f"'spotify'.*{given!r}.*Did you mean {nearest!r}"):
        TokenRotate().register("spotify", **{given: "x"})  # type: ignore[misc]


def test_all_options_are_accepted_at_the_call() -> None:
    """A catalogue parameter and a name in capitals, as an environment has it, are options too."""
    rotate = TokenRotate()
    rotate.register("auth0", domain="acme.eu.auth0.com", client_id="x", client_secret="y")
    rotate.register("work", PRESET="microsoft", Tenant="contoso")  # type: ignore[misc]
    assert rotate._registered.keys() == {"auth0", "work"}
