"""Where a browser goes for a `Location`: the parts of the WHATWG URL standard that decide the origin.

Written from the standard's basic URL parser (section 4.4) for a base of a special scheme: blanks and
control characters are stripped at both ends, tabs and line ends anywhere, and a backslash is a slash.
"""

from __future__ import annotations

import re

_SPECIAL = ("http", "https", "ws", "wss", "ftp")
_STRIPPED = "".join(map(chr, range(0x21)))
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)


def origin(address: str, *, base: str = "https://app.example") -> str:
    """Return the origin that ``address`` leads to from a page of ``base``; other schemes as they are."""
    address = re.sub(r"[\t\n\r]", "", address.strip(_STRIPPED))
    scheme, host = base.split("://")
    found = _SCHEME.match(address)
    if found:
        given, rest = found[1].lower(), found[2]
        if given not in _SPECIAL:
            return f"{given}:"
        rest = rest.replace("\\", "/")
        if given == scheme and not rest.startswith("//"):
            return base  # relative to the base, as in "https:path"
        return f"{given}://{_authority(rest.lstrip('/'))}"
    path = re.split(r"[?#]", address, maxsplit=1)[0].replace("\\", "/")
    if path.startswith("//"):
        return f"{scheme}://{_authority(path.lstrip('/'))}"
    return f"{scheme}://{host}"


def _authority(rest: str) -> str:
    return re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].lower()
