"""The connections of one process to the APIs that tokens are for."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from ..forks import call_in_forked_child


class SharedConnections(BaseAdapter):
    """The connections of one process to all APIs: no token, cookie or header of anyone.

    A connection that two processes of a fork share would mix up the responses of two users, so a forked
    child begins with none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begin()
        call_in_forked_child(self._begin)

    def _begin(self) -> None:
        self._adapter = HTTPAdapter()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send as `HTTPAdapter` does."""
        return self._adapter.send(request, *args, **kwargs)

    def close(self) -> None:
        """Do nothing: a session that is closed does not close the others' connections."""
