"""The application and its visitors, as in `tests.web`."""

from __future__ import annotations

from tests.web.conftest import app as app
from tests.web.conftest import client as client
from tests.web.conftest import make_app as make_app
from tests.web.conftest import rotate as rotate
from tests.web.conftest import sign_in as sign_in
