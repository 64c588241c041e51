"""Waits for rotations that an application has begun in the background."""

from __future__ import annotations

from flask import Flask

from ..web.state import state_of


def wait_for_rotations(app: Flask, *, seconds: float = 10.0) -> None:
    """Wait until the rotation threads of ``app`` are idle, in this process.

    A rotation ahead goes on after the response of the request that began it, and so does a redemption whose
    request has stopped waiting. Raises `TimeoutError` when they are not done in ``seconds``.
    """
    if not state_of(app).threads.wait_until_idle(seconds):
        raise TimeoutError(f"The rotations of {app.name!r} are still in progress after {seconds:g} s.")
