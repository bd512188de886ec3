"""The browser's session: the bearer token in a cookie that scripts cannot read, and the form token derived from it.

No session is stored anywhere, so any replica serves any page. A form must carry the token's HMAC, which another site cannot
know, and must come from our own origin as the browser says it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request, Response

from serve_apps.http import Problem

COOKIE = "kubernaut_session"
FORM_FIELD = "form_token"
_PURPOSE = b"kubernaut console form"


def token_of(request: Request) -> str:
    """Return the token that authenticated this request; the gate has checked it."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return request.cookies.get(COOKIE, "")


def form_token(request: Request) -> str:
    """Return what a form of this session has to carry."""
    return hmac.new(token_of(request).encode(), _PURPOSE, hashlib.sha256).hexdigest()


async def read_form(request: Request) -> Mapping[str, str]:
    """Read a posted form. Raises a ``Problem`` when it is none or comes from another site."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise Problem(415, detail="send a form (application/x-www-form-urlencoded)")
    _refuse_other_origins(request)
    body = await request.body()
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50))
    except ValueError as error:
        raise Problem(400, detail=f"the form cannot be read: {error}") from error


def check_form_token(request: Request, form: Mapping[str, str]) -> None:
    """Raise a ``Problem`` unless the form was rendered for this session."""
    if not hmac.compare_digest(form.get(FORM_FIELD, "").encode(), form_token(request).encode()):
        raise Problem(403, detail="this form is not of your session; load the page again")


def log_in(request: Request, response: Response, token: str) -> None:
    secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
    path = request.scope.get("root_path") or "/"
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, path=path)


def log_out(request: Request, response: Response) -> None:
    response.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")


def _refuse_other_origins(request: Request) -> None:
    """Go by what the browser says; Origin is ``null`` in our own forms, because pages send no referrer."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        foreign = site not in {"same-origin", "none"}
    else:
        origin = request.headers.get("origin", "null")
        foreign = origin != "null" and urlsplit(origin).netloc != request.headers.get("host", "")
    if foreign:
        raise Problem(403, detail="forms are taken from the console's own pages only")
