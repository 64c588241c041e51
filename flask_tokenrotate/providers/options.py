"""The keywords of `TokenRotate.register`, with their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..suggestions import did_you_mean
from .catalogue import Parameters

if TYPE_CHECKING:
    from typing import Literal

    from ..provider import ClientAuth
    from ..rotation.protocol import OnUnknown
    from ..rotation.tokens import Secret


class ProviderOptions(Parameters, total=False):
    """What is registered of a provider. Durations are in seconds; see `Provider` and `ResponseRules`.

    ``preset`` names an entry of the catalogue, where it is not the name of the provider itself. The
    parameters of the catalogue's entries (``domain``, ``tenant`` and so on) are options as well.
    """

    preset: str

    client_id: str
    client_secret: str | Secret | None
    client_auth: ClientAuth
    scopes: str | Iterable[str]

    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str | None
    userinfo_endpoint: str | None
    issuer: str | None
    authorize_params: Mapping[str, str]
    token_params: Mapping[str, str]
    subject_field: str
    checks_iss: bool

    on_unknown: OnUnknown
    grace_seconds: float
    rotation_kills_access_token: bool
    ahead_seconds: float | None
    min_ttl_seconds: float | None

    refused_errors: str | Iterable[str]
    busy_errors: str | Iterable[str]
    server_error_means: Literal["busy", "unknown"]
    empty_refusal: Literal["unknown", "refused"]
    expires_in_unit: Literal["seconds", "milliseconds"]
    default_lifetime: float | None
    scope_separators: str


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise `ConfigurationError` for an option that does not exist, with the nearest that does."""
    known = ProviderOptions.__annotations__
    for option in options:
        if option.lower() not in known:
            raise ConfigurationError(
                f"Provider {name!r}: unknown option {option!r}.{did_you_mean(option.lower(), known)}"
            )
