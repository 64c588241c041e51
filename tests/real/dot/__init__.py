"""django-oauth-toolkit as the provider: its own models, views and pages, behind a log of ours.

``python -m tests.real.dot USER…`` makes its database, gunicorn serves it with `settings`.
"""
