"""Flask-TokenRotate: fresh OAuth 2 tokens, each rotating refresh token redeemed once."""

from __future__ import annotations

from .errors import ConfigurationError as ConfigurationError
from .errors import ProviderUnavailable as ProviderUnavailable
from .errors import SignInRequired as SignInRequired
from .errors import TokenRotateError as TokenRotateError
from .extension import TokenRotate as TokenRotate
from .web.current_token import current_token as current_token
from .web.request import require_fresh_token as require_fresh_token
from .web.signals import grant_ended as grant_ended
from .web.signals import rotation_failed as rotation_failed
from .web.signals import scopes_changed as scopes_changed
from .web.signals import signed_in as signed_in
from .web.signals import token_rotated as token_rotated
