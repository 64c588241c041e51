"""django-oauth-toolkit as the provider: its own models, views and pages, with a log of what was presented.

``python -m tests.servers.django_oauth_toolkit USER…`` makes its database, gunicorn serves it with `settings`.
"""
