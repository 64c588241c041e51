"""Logs what is presented to the provider, and drops a response when a test asks for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.http import HttpRequest, HttpResponse

View = Callable[[HttpRequest], HttpResponse]


def log_and_drop(get_response: View) -> View:
    """Log each presentation of a refresh token, and lose an answer when a test asks for it."""

    def answer(request: HttpRequest) -> HttpResponse:
        refresh_token = request.POST.get("refresh_token") if request.path == "/o/token/" else None
        if refresh_token is None:
            return get_response(request)
        # Appended by one write each, so that those of several processes do not mix.
        with (settings.FOLDER / "presented.log").open("ab", buffering=0) as log:
            log.write(f"{refresh_token}\n".encode())
        response = get_response(request)
        with suppress(FileNotFoundError):
            (settings.FOLDER / "drop-next-answer").unlink()  # succeeds for one request only
            request.META["gunicorn.socket"].shutdown(socket.SHUT_RDWR)
        return response

    return answer
