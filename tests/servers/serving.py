"""The application for the servers that import an object: WSGI, and ASGI by two bridges."""

from __future__ import annotations

from typing import Any

from .application import create_app

wsgi = create_app()


def __getattr__(name: str) -> Any:
    if name == "asgiref_app":
        from asgiref.wsgi import WsgiToAsgi

        return WsgiToAsgi(wsgi)
    if name == "a2wsgi_app":
        from a2wsgi import WSGIMiddleware

        return WSGIMiddleware(wsgi)
    raise AttributeError(name)
