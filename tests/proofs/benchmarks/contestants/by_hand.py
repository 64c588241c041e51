"""The call to the token endpoint that an application writes by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests

from .pages import ProviderAway, SignInAgain, with_expiry

REDEEM_SECONDS = 7.0


def redeem(place: Mapping[str, str], tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Redeem the refresh token and return what to store. Raises `SignInAgain` and `ProviderAway`."""
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    client = (place["CLIENT_ID"], place["CLIENT_SECRET"])
    try:
        answer = requests.post(place["TOKEN_ENDPOINT"], data=form, auth=client, timeout=REDEEM_SECONDS)
    except requests.RequestException as error:
        raise ProviderAway from error
    if answer.status_code >= 500:
        raise ProviderAway
    if answer.status_code != 200:
        raise SignInAgain
    return with_expiry({**tokens, **answer.json()})
