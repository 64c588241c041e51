"""The extension on real servers (`tests.servers`): gunicorn, Redis, PostgreSQL, django-oauth-toolkit."""
