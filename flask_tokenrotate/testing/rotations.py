"""Waits for the rotations that an application does in the background."""

from __future__ import annotations

from flask import Flask

from ..web.state import state_of


def wait_for_rotations(app: Flask, *, seconds: float = 10.0) -> None:
    """Wait until the rotation threads of ``app`` are idle, in this process.

    A rotation ahead continues after the response to the request that began it, and so does a redemption whose
    request no longer waits. Raises `TimeoutError` if they have not ended after ``seconds``.
    """
    if not state_of(app).threads.wait_until_idle(seconds):
        raise TimeoutError(f"The rotations of {app.name!r} are still in progress after {seconds:g} s.")
