"""Makes the database: its tables, the users, whose passwords are their names, and the one client.

``CLIENT_ID``, ``CLIENT_SECRET`` and ``REDIRECT_URI`` describe the client.
"""

from __future__ import annotations

import os
import sys

import django
from django.core.management import call_command

django.setup()
call_command("migrate", verbosity=0, run_syncdb=True)

from django.contrib.auth.models import User  # noqa: E402 - models need the set-up above
from oauth2_provider.models import Application  # noqa: E402

for name in sys.argv[1:]:
    User.objects.create_user(name, password=name)
Application.objects.create(
    name="The application",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    redirect_uris=os.environ["REDIRECT_URI"],
    client_type=Application.CLIENT_CONFIDENTIAL,
    authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
)
