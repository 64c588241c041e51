"""Django's settings: an authorization server that is as strict as the toolkit can be.

``INSTANCE`` is the folder of its files, ``GRACE_SECONDS`` how long it accepts a spent refresh token.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ["INSTANCE"])

SECRET_KEY = "for-tests-only"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.servers.django_oauth_toolkit.urls"
LOGIN_URL = "/login/"
STATIC_URL = "/static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "oauth2_provider",
]
# The tables are made from the models: every migration one after the other takes seconds.
MIGRATION_MODULES = dict.fromkeys(("auth", "contenttypes", "sessions", "oauth2_provider"))
MIDDLEWARE = [
    "tests.servers.django_oauth_toolkit.middleware.log_and_drop",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "provider.sqlite3",
        "OPTIONS": {
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL",
            # Django's default begins to write only after it has read: of two refreshes at once one
            # then fails with status 500, and the storm would be a storm of outages.
            "transaction_mode": "IMMEDIATE",
        },
    }
}
LOGIN_PAGE = """<form method="post">{% csrf_token %}{{ form.as_p }}
<input type="hidden" name="next" value="{{ next }}"></form>"""
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_PAGE}),
                "django.template.loaders.app_directories.Loader",
            ],
            "context_processors": ["django.template.context_processors.request"],
        },
    }
]
OAUTH2_PROVIDER = {
    "ACCESS_TOKEN_EXPIRE_SECONDS": int(os.environ.get("ACCESS_SECONDS", "2")),
    "ROTATE_REFRESH_TOKEN": True,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": int(os.environ["GRACE_SECONDS"]),
    "PKCE_REQUIRED": True,
    "SCOPES": {"read": "Read everything"},
    "ALLOWED_REDIRECT_URI_SCHEMES": ["http"],
}
