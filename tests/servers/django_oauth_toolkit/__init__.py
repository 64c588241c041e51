"""django-oauth-toolkit as the provider: its own models, views and pages, behind a log of ours.

``python -m tests.servers.django_oauth_toolkit USER…`` makes its database, gunicorn serves it with `settings`.
"""
