"""Who the server answers, and what it never tells."""

import base64
import http.client
import json
import random
import struct

import numpy as np
import pytest

import relukit
from relukit.explorer import explore


@pytest.fixture(scope="module")
def page():
    served = explore()
    yield served
    served.close()


def ask(page, method="POST", path="/api/hello", body=b"{}", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", page.server.port, timeout=20)
    given = {"Content-Type": "application/json", "X-Relukit-Token": page.server.token}
    given |= {k.replace("_", "-"): v for k, v in headers.items()}
    connection.request(method, path, body, {k: v for k, v in given.items() if v is not None})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


def unpack(raw):
    (length,) = struct.unpack("<I", raw[:4])
    return json.loads(raw[4 : 4 + length])


def test_foreign_host_origin_and_missing_token_are_refused(page):
    assert ask(page)[0] == 200
    assert ask(page, X_Relukit_Token=None)[0] == 403
    assert ask(page, X_Relukit_Token="wrong")[0] == 403
    for method, path in (("POST", "/api/hello"), ("GET", "/")):
        assert ask(page, method, path, Host="evil.example")[0] == 403
        assert ask(page, method, path, Host=f"evil.example:{page.server.port}")[0] == 403
    assert ask(page, Origin="http://evil.example")[0] == 403
    assert ask(page, Content_Type="text/plain")[0] == 415
    assert ask(page, path="/api/frame", body=b"x" * (300 << 10))[0] == 413


def test_policy_is_strict_and_only_the_page_is_served(page):
    status, _, headers = ask(page, "GET", "/")
    policy = headers["Content-Security-Policy"]
    assert status == 200 and "default-src 'none'" in policy and "unsafe" not in policy and "*;" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    for path in ("/../pyproject.toml", "/static/page.js", "/%2e%2e/etc/passwd", "//etc/passwd", "/page.py"):
        assert ask(page, "GET", path)[0] == 404


def test_a_thousand_bad_requests_are_survived(page):
    rng = random.Random(0)
    good = {
        "settings": {"widths": [4]},
        "step": 0,
        "point": [0, 0],
        "points": [[0, 0], [1, 1]],
        "name": "a.onnx",
        "content": "",
    }
    junk = [None, -1, 1e300, "x" * 50, [], {}, [[]], True, "../../etc/passwd", {"a": []}, [1, 2, 3], -0.0]
    connection = http.client.HTTPConnection("127.0.0.1", page.server.port, timeout=20)
    seen = set()
    for _ in range(1000):
        body = {k: (rng.choice(junk) if rng.random() < 0.5 else v) for k, v in good.items()}
        raw = json.dumps(body).encode()
        if rng.random() < 0.3:
            raw = bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
        path = "/api/" + rng.choice(["frame", "point", "curve", "model", "compare2", "", "hello/../frame"])
        connection.request(
            "POST", path, raw, {"Content-Type": "application/json", "X-Relukit-Token": page.server.token}
        )
        answer = connection.getresponse()
        text = answer.read()
        seen.add(answer.status)
        if answer.status != 200:
            assert (
                set(json.loads(text)) == {"error"}
                and b"Traceback" not in text
                and b"/tmp" not in text
                and b".py" not in text
            )
        if answer.getheader("Connection") == "close":
            connection.close()
    connection.close()
    assert 500 not in seen and ask(page)[0] == 200


def test_a_dropped_file_is_opened_and_a_bad_one_tells_no_path(page, tmp_path):
    rng = np.random.default_rng(0)
    network = relukit.load(
        {"W0": rng.normal(size=(6, 3)), "b0": rng.normal(size=6), "W1": rng.normal(size=(2, 6)), "b1": np.zeros(2)}
    )
    relukit.save(network, tmp_path / "small.onnx")
    content = base64.b64encode((tmp_path / "small.onnx").read_bytes()).decode()
    rows = rng.normal(size=(5, 3)).tolist()
    status, raw, _ = ask(
        page, path="/api/model", body=json.dumps({"name": "small.onnx", "content": content, "rows": rows}).encode()
    )
    answer = unpack(raw)
    assert status == 200 and answer["count"] == len(relukit.regions(network, plane=tuple(np.array(rows[:3]))))
    assert answer["flip"]["distance"] == pytest.approx(relukit.flip(network, np.array(rows[0])).distance, rel=1e-5)
    for name in ("x.onnx", "x.npz", "x.pkl", "../x.onnx"):
        body = json.dumps({"name": name, "content": base64.b64encode(b"junk" * 30).decode()}).encode()
        status, raw, _ = ask(page, path="/api/model", body=body)
        assert status == 422 and b"/" not in raw.replace(b".onnx", b"") and b"tmp" not in raw


def test_in_a_notebook_it_is_a_frame(page):
    assert f'src="{page.url}"' in page._repr_html_() and page.server.token not in repr(page)
