"""Whatever is sent to it, the app answers in JSON, never with 500, and gives out nothing but its own."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app_served import FORM, Served
from attnreg.app.fields import FIELDS

SECRET = "a secret that lies beside the history"
GETS = ("/", "/page/", "/pictures/", "/api/options", "/api/jobs/", "/api/history/", "/api/history?before=")
POSTS = ("/api/targets", "/api/copy", "/api/draw", "/api/jobs/x/stop")
ESCAPES = (
    "../secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//secret.txt",
    "/etc/passwd",
    "%00",
    "..%5csecret",
    "x/../../secret.txt",
    "20260101-000000-x-000000000000/../../secret.txt",
    "%252e%252e%252fsecret.txt",
    "app.css/../../door.py",
    "..%c0%af..%c0%afsecret.txt",
    "20260101-000000-x-000000000000/seed0-none.png%00.txt",
    "../door.py",
    "..%2fdoor.py",
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
forms = st.fixed_dictionaries({}, optional={name: values for name in (*FIELDS, "model", "page", "path")})


@pytest.fixture(scope="module", autouse=True)
def secret(served: Served) -> Path:
    path = served.app.history.root.parent / "secret.txt"
    path.write_text(SECRET)
    return path


def fits(status: int, body: bytes) -> None:
    assert status < 500, body
    assert SECRET.encode() not in body
    assert b"root:" not in body
    assert b"Traceback" not in body
    assert str(Path.home()).encode() not in body


@given(form=forms, path=st.sampled_from(POSTS))
@settings(max_examples=150)
@example(form={**FORM, "prompt": "\ud800"}, path="/api/draw")
@example(form={**FORM, "prompt": "a bird\0"}, path="/api/draw")
@example(form={**FORM, "page": {"a": 1}, "steps": 10**30}, path="/api/draw")
def test_forms(served: Served, form: dict[str, Any], path: str) -> None:
    """No drawing comes of it: what is made up has no prompt that the model knows, or a field that is wrong."""
    status, headers, body = served.ask("POST", path, json.dumps(form).encode(), {"content-type": "application/json"})
    fits(status, body)
    assert headers["content-type"] == "application/json"
    assert isinstance(json.loads(body), dict)


@given(
    field=st.sampled_from([*FIELDS, "model", "page"]), value=values, path=st.sampled_from(["/api/targets", "/api/copy"])
)
@settings(max_examples=150)
def test_a_good_form_with_one_field_that_may_be_wrong(served: Served, field: str, value: Any, path: str) -> None:
    status, body = served.post(path, FORM | {field: value})
    fits(status, json.dumps(body).encode())
    assert status == 200 or all(isinstance(text, str) and text for text in body["errors"].values())


@given(body=st.binary(max_size=300), path=st.sampled_from([*POSTS, "/api/restore"]), kind=st.sampled_from(["", "json"]))
@example(body=b"\xff\xfe", path="/api/draw", kind="json")
@example(body=b"[" * 300, path="/api/draw", kind="json")
@example(body=b'{"a":1,"a":2}', path="/api/draw", kind="json")
@example(body=b'{"steps": NaN}', path="/api/draw", kind="json")
def test_bodies(served: Served, body: bytes, path: str, kind: str) -> None:
    status, _, answer = served.ask("POST", path, body, {"content-type": f"application/{kind or 'x'}"})
    fits(status, answer)
    assert status >= 400


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("place", GETS)
def test_no_path_leads_out(served: Served, place: str, escape: str) -> None:
    status, headers, body = served.ask("GET", place + escape)
    fits(status, body)
    assert b"class Door" not in body
    assert status in (400, 404) or place.startswith("/api/history?")
    assert headers["x-content-type-options"] == "nosniff"


@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60),
    place=st.sampled_from(GETS),
)
def test_addresses(served: Served, name: str, place: str) -> None:
    status, _, body = served.ask("GET", place + name)
    fits(status, body)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST", "FOO"])
@pytest.mark.parametrize("path", ["/", "/api/options", "/api/draw", "/pictures/a/b", "/api/history/x"])
def test_other_methods(served: Served, method: str, path: str) -> None:
    status, _, body = served.ask(method, path)
    fits(status, body)
    assert status >= 400


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"POST /api/draw HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/draw HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nabc",
        b"POST /api/draw HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_is_no_request(served: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as link:
        link.sendall(sent)
        link.shutdown(socket.SHUT_WR)
        got = b""
        while part := link.recv(65536):
            got += part
    assert b" 500 " not in got[:20]
    assert b"Traceback" not in got
    assert served.get("/api/history")[0] == 200, "it goes on"
