"""What every request must pass before any of it is looked at, and what every answer carries."""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from momkd.viewer.options import ViewerOptions

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

COOKIE = "momkd_viewer"
OWN_HEADER = b"x-momkd-viewer"
"""Scripts of this viewer send it; a page elsewhere cannot without asking, and is not answered."""

UPLOADS = "/api/uploads"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_METHODS = ("GET", "HEAD", "POST", "DELETE")
_LONGEST_TARGET = 4096


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """One line and a status, instead of what was asked for."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


class Guard:
    """ASGI middleware around everything the viewer serves.

    Turned away: hosts that are not this viewer's (DNS rebinding), pages of other origins, requests
    without the token where there is one, bodies that are too large (413) or too slow (408). There
    is no CORS: nobody else is answered.

    Parameters
    ----------
    app
        What is guarded.
    options
        Names and limits.
    token
        None: nobody is asked for one.
    """

    def __init__(self, app: App, options: ViewerOptions, token: str | None = None) -> None:
        self._app = app
        self._options = options
        self._token = token
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        answer = _Answer(send, is_secret=not scope["path"].startswith("/static/"))
        try:
            headers = _headers(scope)
            self._require_own(scope, headers)
            if self._token is not None and not self._has_session(headers):
                await self._exchange(scope, answer)
                return
            body = _Body(receive, self._limit(scope, headers), self._options.silence_s)
            await self._app(scope, body, answer)
        except Refusal as refusal:
            await answer.refuse(refusal.status, refusal.line)

    def _require_own(self, scope: Message, headers: dict[bytes, list[bytes]]) -> None:
        method = scope["method"]
        if method not in _METHODS:
            raise Refusal(405, f"{method[:16]} is not answered")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _LONGEST_TARGET:
            raise Refusal(414, "the address is too long")
        hosts = headers.get(b"host", [])
        host = hosts[0].decode("latin-1") if len(hosts) == 1 else ""
        if not self._options.is_own_name(_without_port(host)):
            raise Refusal(421, "this is not the host asked for; see --allow-host")
        origin = headers.get(b"origin")
        if origin is not None and origin not in ([f"{s}://{host}".encode()] for s in _SCHEMES):
            raise Refusal(403, "pages of other origins are not answered")
        site = headers.get(b"sec-fetch-site", [b"none"])[0]
        navigates = headers.get(b"sec-fetch-mode", [b""])[0] == b"navigate" and method == "GET"
        if site not in (b"same-origin", b"none") and not navigates:
            raise Refusal(403, "pages of other origins are not answered")
        if method in ("POST", "DELETE") and OWN_HEADER not in headers:
            raise Refusal(403, "only the pages of this viewer may ask for that")

    def _has_session(self, headers: dict[bytes, list[bytes]]) -> bool:
        for line in headers.get(b"cookie", []):
            try:
                jar = SimpleCookie(line.decode("latin-1"))
            except CookieError:
                continue
            if COOKIE in jar and _equal(jar[COOKIE].value, self._session):
                return True
        return False

    async def _exchange(self, scope: Message, answer: "_Answer") -> None:
        """Take the token of an address for a cookie, and have it vanish from the address."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [v for k, v in pairs if k == "token"]
        assert self._token is not None
        if scope["method"] != "GET" or len(given) != 1 or not _equal(given[0], self._token):
            raise Refusal(401, "open the address that momkd serve printed: it holds the token")
        rest = urlencode([(k, v) for k, v in pairs if k != "token"])
        path = "/" + scope["path"].lstrip("/").replace("\\", "/")
        place = (path if path.isascii() and path.isprintable() else "/") + (f"?{rest}" * bool(rest))
        cookie = f"{COOKIE}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"location", place.encode()), (b"set-cookie", cookie.encode())]
        await answer.give(303, b"", headers)

    def _limit(self, scope: Message, headers: dict[bytes, list[bytes]]) -> int:
        is_upload = scope["path"] == UPLOADS
        limit = self._options.max_upload_bytes if is_upload else self._options.max_body_bytes
        stated = headers.get(b"content-length", [b"0"])
        if len(stated) != 1 or not stated[0].isdigit():
            raise Refusal(400, "its length is not stated as a number")
        if int(stated[0]) > limit:
            raise Refusal(413, f"larger than the limit of {limit:,} bytes")
        if b"content-encoding" in headers:
            raise Refusal(415, "compressed requests are not read")
        return limit


_SCHEMES = ("http", "https")


class _Body:
    """A request's body: counted, and not waited for without end."""

    def __init__(self, receive: Receive, limit: int, silence_s: float) -> None:
        self._receive = receive
        self._left = limit
        self._limit = limit
        self._silence_s = silence_s
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:  # what comes now is that the client has gone
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._silence_s)
        except asyncio.TimeoutError:
            raise Refusal(408, f"nothing came for {self._silence_s:g} s") from None
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
            if self._left < 0:
                raise Refusal(413, f"larger than the limit of {self._limit:,} bytes")
        return message


class _Answer:
    """An answer on its way, with the headers that all carry."""

    def __init__(self, send: Send, *, is_secret: bool) -> None:
        self._send = send
        self._is_secret = is_secret
        self._has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            headers = [*message.get("headers", []), *_HEADERS]
            if self._is_secret and not any(k == b"cache-control" for k, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, status: int, line: str) -> None:
        """Answer with one line, and close: what else was sent is not read."""
        if not self._has_begun:
            plain = (b"content-type", b"text/plain; charset=utf-8")
            await self.give(status, f"{line}\n".encode(), [plain, (b"connection", b"close")])

    async def give(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Answer with a short body."""
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _headers(scope: Message) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for key, value in scope["headers"]:
        found.setdefault(key.lower(), []).append(value)
    return found


def _without_port(host: str) -> str:
    """Cut the port off; "" for what is no host."""
    if host.startswith("["):
        address, sign, port = host.partition("]")
        is_good = bool(sign) and (port == "" or (port[0] == ":" and port[1:].isdigit()))
        return f"{address}]" if is_good else ""
    name, sign, port = host.partition(":")
    return name if not sign or port.isdigit() else ""


def _equal(one: str, other: str) -> bool:
    """Compare in a time that does not tell how much is right."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
