"""The authorization endpoint: the page on which the user allows or denies."""

from __future__ import annotations

import hashlib
import hmac

from jinja2 import Environment, PackageLoader
from oauthlib.common import add_params_to_uri
from oauthlib.oauth2 import AccessDeniedError, FatalClientError, OAuth2Error
from werkzeug.wrappers import Request, Response

from .rules import Rules
from .state import ProviderState

_templates = Environment(loader=PackageLoader("flask_tokenrotate.testing"), autoescape=True)


def authorize(provider: ProviderState, request: Request) -> Response:
    """Show the consent page (GET), or redirect the browser with the user's decision (POST)."""
    uri = request.full_path
    with provider.ledger.lock:
        rules = Rules(provider.client, provider.ledger, provider)
        try:
            if request.method == "POST":
                return _decide(provider, rules, request, uri)
            scopes, _ = rules.server().validate_authorization_request(uri)
        except FatalClientError as refusal:
            return _page(
                400, reason=f"{refusal.description or refusal.error} The browser was not redirected."
            )
        except OAuth2Error as refusal:
            return _send_back(provider, refusal.in_uri(str(refusal.redirect_uri)))
        except ValueError:
            return _page(400, reason="The URL is not properly encoded.")
    ticket = _ticket(provider, uri)
    return _page(200, client_id=provider.client.client_id, scopes=scopes, ticket=ticket)


def _decide(provider: ProviderState, rules: Rules, request: Request, uri: str) -> Response:
    # Another site can make a browser post here, but it cannot know the ticket of the page.
    if not hmac.compare_digest(request.form.get("ticket", "").encode(), _ticket(provider, uri).encode()):
        return _page(400, reason="This form is not from this server's page. Start signing in again.")
    user = request.form.get("user", "").strip()
    if request.form.get("decision") != "allow":
        _, info = rules.server().validate_authorization_request(uri)
        denied = AccessDeniedError("The user said no.", request=info["request"])
        return _send_back(provider, denied.in_uri(info["redirect_uri"]))
    if not user:
        return _page(400, reason="Give a user name. Go back and try again.")
    headers, _, _ = rules.server().create_authorization_response(uri, credentials={"user": user})
    return _send_back(provider, headers["Location"])


def _ticket(provider: ProviderState, uri: str) -> str:
    return hmac.new(provider.ticket_key.reveal().encode(), uri.encode(), hashlib.sha256).hexdigest()


def _send_back(provider: ProviderState, location: str) -> Response:
    """Redirect with the issuer (RFC 9207); 303, so that the form is not posted again (RFC 9700 4.12)."""
    return Response(status=303, headers={"Location": add_params_to_uri(location, [("iss", provider.url)])})


def _page(status: int, **values: object) -> Response:
    html = _templates.get_template("consent.html").render(values)
    response = Response(html, status, mimetype="text/html")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
