"""Which hosts are this machine: plain http is good for these only, as it is never on a wire."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is this machine for whoever asks: ``localhost``, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback_in_browsers(host: str) -> bool:
    """Return whether a browser takes ``host`` for its own machine: ``*.localhost`` as well.

    Browsers never look such a name up. A server's resolver may ask the network for it, so that a
    secret that is sent there could end up anywhere: `is_loopback` says no.
    """
    return is_loopback(host) or host.lower().endswith(".localhost")


def is_on_loopback(host: str) -> bool:
    """Return whether a browser sent a request to its own machine; ``host`` is the ``Host`` header."""
    return is_loopback_in_browsers(urlsplit(f"//{host}").hostname or "")
