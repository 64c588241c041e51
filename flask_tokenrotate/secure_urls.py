"""Which URLs a secret may be sent to: https anywhere, plain http to this machine only.

oauthlib's own rule is not enough: an environment variable switches it off for the whole process, which a
library must not set and which allows plain http to every host.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from .errors import ConfigurationError
from .loopback import is_loopback


def check_url(url: str, what: str) -> None:
    """Raise `ConfigurationError` unless ``url`` is https, or http on a loopback host.

    ``what`` names the URL in the message, which shows its host and nothing else: a user name, password or
    query may be secret.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigurationError(f"{what} is not a URL. Write it as 'https://host/path'.") from None
    if not host or parts.scheme not in ("https", "http"):
        raise ConfigurationError(f"{what} must be an absolute https URL, such as 'https://host/path'.")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ConfigurationError(f"{what} (host {host!r}) has spaces or control characters. Remove them.")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"{what} (host {host!r}) has a user name or password in it. Use client_id and client_secret."
        )
    if parts.fragment:
        raise ConfigurationError(f"{what} (host {host!r}) has a fragment, which is never sent. Remove it.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{what} is plain http on host {host!r}: others on the network could read tokens and secrets. "
            "Use https; http works for loopback hosts only."
        )
