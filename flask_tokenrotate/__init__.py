"""Flask-TokenRotate: fresh OAuth 2 tokens, each rotating refresh token redeemed once."""

from __future__ import annotations

from .errors import ConfigurationError as ConfigurationError
from .errors import CrossSiteRequest as CrossSiteRequest
from .errors import GrantUnreadable as GrantUnreadable
from .errors import InvalidTokenResponse as InvalidTokenResponse
from .errors import LedgerConflict as LedgerConflict
from .errors import NotStorableInSession as NotStorableInSession
from .errors import ProviderMisconfigured as ProviderMisconfigured
from .errors import ProviderUnavailable as ProviderUnavailable
from .errors import RescueFailed as RescueFailed
from .errors import RotationTimeout as RotationTimeout
from .errors import ScopesNotGranted as ScopesNotGranted
from .errors import SignInFailed as SignInFailed
from .errors import SignInRequired as SignInRequired
from .errors import StoreUnavailable as StoreUnavailable
from .errors import TablesMissing as TablesMissing
from .errors import TokenRotateError as TokenRotateError
from .errors import TryLater as TryLater
from .errors import UnknownProvider as UnknownProvider
from .extension import TokenRotate as TokenRotate
from .rotation.tokens import Grant as Grant
from .web.current_token import CurrentToken as CurrentToken
from .web.current_token import current_token as current_token
from .web.require_fresh_token import require_fresh_token as require_fresh_token
from .web.signals import grant_ended as grant_ended
from .web.signals import rotation_failed as rotation_failed
from .web.signals import scopes_changed as scopes_changed
from .web.signals import signed_in as signed_in
from .web.signals import token_rotated as token_rotated
