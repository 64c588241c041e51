"""Makes a `Provider` from the catalogue, the configuration and the keywords of `register`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, get_args

from ..errors import ConfigurationError
from ..provider import ENDPOINTS, ClientAuth, Provider, how_to_set
from ..rotation.protocol import OnUnknown
from ..rotation.token_response import ResponseRules
from ..rotation.tokens import Secret, parse_scopes
from ..suggestions import did_you_mean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:/-]*")
_RESPONSE_FIELDS = frozenset(each.name for each in fields(ResponseRules))
_REQUIRED = ("client_id", "authorization_endpoint", "token_endpoint")

PROTOCOL_PARAMETERS = frozenset(
    {
        *("response_type", "client_id", "client_secret", "redirect_uri", "scope", "state", "nonce"),
        *("code", "code_challenge", "code_challenge_method", "code_verifier"),
        *("grant_type", "refresh_token"),
    }
)
"""What the protocol itself sends; `authorize_params` and `token_params` must not set it."""


def build_provider(name: str, *layers: Mapping[str, object]) -> Provider:
    """Return the provider ``name`` made of ``layers``; a later layer overrides an earlier one.

    All of them override the catalogue's entry of the same name, or the one that ``preset`` names. Keys are
    those of `ProviderOptions`, in upper or lower case. None counts as not given; mappings are merged. With
    an authorization or token endpoint of your own, none of the catalogue's endpoints is used: they belong
    to another server.

    Raises `ConfigurationError` for an unknown key, a missing one, and a value that cannot work.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"The provider name {name!r} becomes a part of URLs: use letters, digits, '-' and '_' only."
        )
    given: dict[str, object] = {}
    for layer in layers:
        _merge(given, {str(key).lower(): value for key, value in layer.items()})
    given = _on_preset(name, given)
    known = {each.name for each in fields(Provider)} - {"name", "response_rules"} | _RESPONSE_FIELDS
    for key in given:
        if key not in known:
            raise ConfigurationError(f"Provider {name!r}: unknown field {key!r}.{did_you_mean(key, known)}")
    for key in _REQUIRED:
        if key not in given:
            raise ConfigurationError(f"Provider {name!r}: {key} is missing. {how_to_set(name, key)}")
    values = {key: READERS[key](f"Provider {name!r}: {key}", value) for key, value in given.items()}
    response_rules = ResponseRules(**{key: values.pop(key) for key in _RESPONSE_FIELDS & values.keys()})
    return Provider(name=name, response_rules=response_rules, **values)


def _merge(base: dict[str, object], layer: Mapping[str, object]) -> None:
    for key, value in layer.items():
        below = base.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            base[key] = {**below, **value}
        elif value is not None:
            base[key] = value


def _on_preset(name: str, given: dict[str, object]) -> dict[str, object]:
    """Return ``given`` on top of the catalogue's facts, with the entry's parameters filled in."""
    from .catalogue import CATALOGUE  # read only where a provider is built

    preset = given.pop("preset", None)
    if preset is not None and not (isinstance(preset, str) and preset in CATALOGUE):
        raise ConfigurationError(
            f"Provider {name!r}: there is no preset {preset!r} (there are: {', '.join(sorted(CATALOGUE))})."
        )
    entry = CATALOGUE.get(name if preset is None else preset)
    if entry is None:
        return given
    facts = entry.facts()
    if "authorization_endpoint" in given or "token_endpoint" in given:
        # Otherwise the tokens of one server would be sent to the userinfo endpoint of another.
        facts = {key: fact for key, fact in facts.items() if key not in ENDPOINTS}
    parameters = {key: given.pop(key, default) for key, default in entry.parameters.items()}
    filled = {
        key: _parameter(name, key, value, place)
        for key, value in parameters.items()
        if (place := place_of(key, facts)) is not None
    }
    facts = {key: fact.format_map(filled) if isinstance(fact, str) else fact for key, fact in facts.items()}
    _merge(facts, given)
    return facts


def place_of(parameter: str, facts: Mapping[str, object]) -> Literal["start", "host", "part"] | None:
    """Return where the URLs in ``facts`` have the parameter, None if they do not have it."""
    marked = f"{{{parameter}}}"
    urls = [fact for fact in facts.values() if isinstance(fact, str) and marked in fact]
    if not urls:
        return None
    if any(url.startswith(marked) for url in urls):
        return "start"
    return "host" if any(f"//{marked}/" in url for url in urls) else "part"


def _parameter(name: str, key: str, value: object, place: Literal["start", "host", "part"]) -> str:
    if value is None:
        raise ConfigurationError(f"Provider {name!r}: {key} is missing. {how_to_set(name, key)}")
    if not isinstance(value, str) or not _PARAMETER.fullmatch(value):
        raise ConfigurationError(f"Provider {name!r}: {key} ({value!r}) cannot be part of a URL.")
    if (place != "start" and "/" in value) or (place == "part" and ":" in value):
        raise ConfigurationError(
            f"Provider {name!r}: {key} ({value!r}) must be the bare name, without 'https://' and path."
        )
    return value.rstrip("/")


def _text(what: str, value: object) -> str:
    # Values in the environment are read as JSON if possible, so an id of digits is a number.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(
            f"{what} must be a string that is not empty, but is {type(value).__name__}. In the "
            "environment, put a value that looks like a number or a list into double quotes."
        )
    return value.strip()


def _secret(what: str, value: object) -> Secret:
    return value if isinstance(value, Secret) else Secret(_text(what, value))


def _scopes(what: str, value: object) -> tuple[str, ...]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple | set | frozenset) or not all(isinstance(w, str) for w in words):
        raise ConfigurationError(f"{what} must be a list of strings, or a string with spaces between scopes.")
    return tuple(dict.fromkeys(words))


def _codes(what: str, value: object) -> frozenset[str]:
    codes = parse_scopes(value, " ,")
    if codes is None:
        raise ConfigurationError(f"{what} must be a list of error codes.")
    return codes


def _seconds(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{what} ({value!r}) must be a number of seconds that is not negative.")
    return float(value)


def _flag(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{what} ({value!r}) must be True or False.")
    return value


def _params(what: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{what} must be a mapping of strings to strings.")
    params = {str(key): _text(f"{what}[{key!r}]", item) for key, item in value.items()}
    if reserved := PROTOCOL_PARAMETERS & params.keys():
        raise ConfigurationError(f"{what} must not set {', '.join(sorted(reserved))}: the protocol does.")
    return params


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def read(what: str, value: object) -> str:
        if value not in choices:
            raise ConfigurationError(f"{what} ({value!r}) must be one of {', '.join(map(repr, choices))}.")
        return str(value)

    return read


READERS: dict[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(("client_id", "subject_field", *ENDPOINTS), _text),
    "client_secret": _secret,
    "scopes": _scopes,
    "client_auth": _one_of(*get_args(ClientAuth)),
    "on_unknown": _one_of(*get_args(OnUnknown)),
    **dict.fromkeys(("grace_seconds", "ahead_seconds", "min_ttl_seconds", "default_lifetime"), _seconds),
    **dict.fromkeys(("rotation_kills_access_token", "checks_iss"), _flag),
    **dict.fromkeys(("authorize_params", "token_params"), _params),
    **dict.fromkeys(("refused_errors", "busy_errors"), _codes),
    "server_error_means": _one_of("busy", "unknown"),
    "empty_refusal": _one_of("unknown", "refused"),
    "expires_in_unit": _one_of("seconds", "milliseconds"),
    "scope_separators": lambda what, value: value if isinstance(value, str) and value else _text(what, value),
}
