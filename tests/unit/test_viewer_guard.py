"""Who is answered by the viewer, and what every answer carries."""

import asyncio

import pytest

from momkd.viewer.guard import COOKIE, POLICY, UPLOADS, Guard
from momkd.viewer.options import ViewerOptions
from tests.viewer_parts import OWN

TOKEN = "correct-token"


async def echo(scope, receive, send):
    """Answer with the length of what was sent."""
    n = 0
    while True:
        message = await receive()
        n += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(n).encode()})


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {}
        for key, value in headers:
            self.headers[key.decode()] = value.decode()
        self.text = body.decode()


def ask(
    path="/",
    *,
    method="GET",
    host="127.0.0.1:8000",
    headers=(),
    chunks=(b"",),
    token=None,
    guard=None,
    silent=False,
    **options,
):
    """Send one request through a guard, chunk by chunk."""
    guard = guard or Guard(echo, ViewerOptions(**options), token)
    path, _, query = path.partition("?")
    given = [(b"host", host.encode())] if host is not None else []
    given += [(k.encode(), v.encode()) for k, v in dict(headers).items()]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
    scope |= {"query_string": query.encode(), "headers": given}
    waiting = list(chunks)
    sent = []

    async def receive():
        if silent:
            await asyncio.sleep(60)
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    body = b"".join(m.get("body", b"") for m in sent[1:])
    return Answer(sent[0]["status"], sent[0]["headers"], body)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:9999", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("192.168.0.7:8000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("localhost:80:80", 421),
        ("[::1", 421),
        ("", 421),
        (None, 421),
    ],
)
def test_names_that_are_not_its_own_are_not_answered(host, status):
    assert ask(host=host).status == status


def test_a_further_name_can_be_allowed():
    assert (
        ask(host="viewer.hospital.example", allow_hosts=("viewer.hospital.example",)).status == 200
    )
    assert ViewerOptions(host="pathology").is_own_name("Pathology")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
    ],
)
def test_pages_of_other_origins_are_not_answered(headers, status):
    answer = ask(headers=headers)
    assert answer.status == status
    assert not [k for k in answer.headers if k.startswith("access-control")]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_form_of_another_page_cannot_change_anything(method):
    assert ask(method=method).status == 403
    assert ask(method=method, headers=OWN).status == 200
    navigates = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask(method=method, headers=OWN | navigates).status == 403


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "TRACE", "CONNECT", "X" * 100])
def test_other_methods_are_not_answered(method):
    assert ask(method=method, headers=OWN).status == 405


def test_every_answer_carries_the_policy_whether_it_refuses_or_not():
    for answer in (ask(), ask(host="evil.example"), ask(token=TOKEN), ask(method="PUT")):
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    assert "*" not in POLICY


def test_nothing_is_answered_without_the_token():
    guard = Guard(echo, ViewerOptions(), TOKEN)
    for path in ("/", "/static/viewer.css", "/api/cases", "/?token=wrong", "/?token=", "/?token"):
        assert ask(path, guard=guard).status == 401
    assert ask(f"/?token={TOKEN}&token=x", guard=guard).status == 401
    assert ask("/", guard=guard, headers={"cookie": f"{COOKIE}={TOKEN}"}).status == 401
    assert ask("/", guard=guard, headers={"cookie": f"{COOKIE}="}).status == 401
    assert ask("/", guard=guard, headers={"cookie": "\x00=;;=\xff"}).status == 401
    post = ask(f"/api/jobs?token={TOKEN}", guard=guard, method="POST", headers=OWN)
    assert post.status == 401


def test_the_token_is_taken_for_a_cookie_and_leaves_the_address():
    guard = Guard(echo, ViewerOptions(), TOKEN)
    answer = ask(f"/slide?a=b&token={TOKEN}", guard=guard)
    assert answer.status == 303
    assert answer.headers["location"] == "/slide?a=b"
    cookie, *rest = answer.headers["set-cookie"].split("; ")
    assert rest == ["HttpOnly", "SameSite=Strict", "Path=/"]
    assert TOKEN not in cookie
    assert ask("/", guard=guard, headers={"cookie": cookie}).status == 200
    assert ask("/", guard=guard, headers={"cookie": f"other=1; {cookie}"}).status == 200
    another = Guard(echo, ViewerOptions(), TOKEN)
    assert ask("/", guard=another, headers={"cookie": cookie}).status == 401
    away = ask(f"//evil.example/x?token={TOKEN}", guard=guard)
    assert away.headers["location"] == "/evil.example/x"
    split = ask(f"/a\r\nset-cookie: x=1?token={TOKEN}", guard=guard)
    assert split.headers["location"] == "/"


def test_bodies_are_limited_by_what_is_announced_and_by_what_comes():
    options = {"max_body_bytes": 1024, "max_upload_gib": 2**-20}  # 1 KiB both
    assert ask(headers={"content-length": "1024"}, chunks=[b"x" * 1024], **options).text == "1024"
    assert ask(headers={"content-length": "1025"}, **options).status == 413
    assert ask(chunks=[b"x" * 600, b"x" * 600], **options).status == 413
    larger = {"max_body_bytes": 1024, "max_upload_gib": 2**-19}
    assert ask(UPLOADS, headers={"content-length": "2048"}, **larger).status == 200
    assert ask("/api/jobs", headers={"content-length": "2048"}, **larger).status == 413
    assert ask(headers={"content-length": "-1"}, **options).status == 400
    assert ask(headers={"content-length": "1e3"}, **options).status == 400
    assert ask(headers={"content-encoding": "gzip"}, **options).status == 415
    assert ask("/" + "x" * 5000, **options).status == 414


def test_a_client_that_sends_nothing_is_let_go():
    answer = ask(silent=True, silence_s=0.05)
    assert answer.status == 408
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")],
        *[(host, False) for host in ("0.0.0.0", "::", "192.168.1.2", "host.example")],
    ],
)
def test_loopback_is_told_from_what_others_reach(host, is_loopback):
    assert ViewerOptions(host=host).is_loopback is is_loopback


def test_websockets_are_not_answered():
    sent = []

    async def send(message):
        sent.append(message)

    guard = Guard(echo, ViewerOptions())
    asyncio.run(guard({"type": "websocket", "path": "/"}, None, send))
    assert sent == []
