"""The extension among real parts: gunicorn, Redis, PostgreSQL, and a provider that nobody here wrote.

`storm` starts servers and sends traffic, `application` is what they serve, `place` looks at its rows
and workers, `sabotage` is what the controls break, and `plain` an application without the extension.
"""
