"""The demo of Flask-TokenRotate: run it with ``python -m example_app``.

`app` is an application as yours would be; `unprotected` is what the storm compares it with.
"""
