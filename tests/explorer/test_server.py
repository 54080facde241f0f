"""Who the server answers, and what it never tells."""

import base64
import http.client
import io
import json
import pickle
import random
import socket
import struct
from pathlib import Path

import numpy as np
import pytest

import relukit
from relukit import InvalidInput
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
    for name in ("page.js", "draw.js", "moments.js", "raster.js", "wire.js", "page.css"):
        status, _, headers = ask(page, "GET", f"/{name}")
        assert status == 200 and headers["Content-Security-Policy"] == policy
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
    chosen = np.array([rows[k - 1] for k in answer["rows"]])
    assert status == 200 and answer["count"] == len(relukit.regions(network, plane=tuple(chosen)))
    assert answer["rows"][0] == 1 and len(set(network.decide(chosen))) == len(set(network.decide(np.array(rows)))) == 2
    assert answer["flip"]["distance"] == pytest.approx(relukit.flip(network, np.array(rows[0])).distance, rel=1e-5)
    spoiled = json.dumps({"name": "small.onnx", "content": f"*{content}", "rows": rows}).encode()
    status, raw, _ = ask(page, path="/api/model", body=spoiled)
    assert status == 422 and b"not base64" in raw
    for name in ("x.onnx", "x.npz", "x.pkl", "../x.onnx"):
        body = json.dumps({"name": name, "content": base64.b64encode(b"junk" * 30).decode()}).encode()
        status, raw, _ = ask(page, path="/api/model", body=body)
        assert status == 422 and b"/" not in raw.replace(b".onnx", b"") and b"tmp" not in raw


def test_a_request_without_a_length_or_with_a_huge_one_is_refused(page):
    assert raw_request(page, "POST /api/hello HTTP/1.1", [])[0] == 411
    assert raw_request(page, "POST /api/hello HTTP/1.1", ["Content-Length: -5"])[0] == 411
    assert raw_request(page, "POST /api/model HTTP/1.1", [f"Content-Length: {200 << 20}"])[0] == 413
    assert raw_request(page, "POST /api/hello HTTP/1.1", [f"Content-Length: {1 << 20}"])[0] == 413


def raw_request(page, line, headers):
    """Status and body, with the token and the right Host, but otherwise just what is given."""
    with socket.create_connection(("127.0.0.1", page.server.port), timeout=20) as wire:
        always = [f"Host: 127.0.0.1:{page.server.port}", "Content-Type: application/json", f"X-Relukit-Token: {page.server.token}"]  # fmt: skip
        wire.sendall("\r\n".join([line, *always, *headers, "", ""]).encode("latin-1"))
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        with answer:
            return answer.status, answer.read()


def test_a_malformed_request_gets_one_word(page):
    for line in ("HELP <script>alert(1)</script> HTTP/1.1", "GET / HTTP/9.9", "DELETE / HTTP/1.1"):
        status, body = raw_request(page, line, [])
        assert status >= 400 and json.loads(body) == {"error": "bad request"}


def test_the_token_counts_in_the_header_only(page):
    assert ask(page, path=f"/api/hello?token={page.server.token}", X_Relukit_Token=None)[0] == 403
    assert ask(page, body=json.dumps({"token": page.server.token}).encode(), X_Relukit_Token=None)[0] == 403
    assert ask(page, X_Relukit_Token="\xff" * 8)[0] == 403
    other = explore()
    assert len(page.server.token) >= 32 and other.server.token != page.server.token
    other.close()


def test_it_listens_on_loopback_alone(page):
    assert page.server.http.server_address[0] == "127.0.0.1"
    command = Path(relukit.__file__).parent / "cli" / "explore.py"
    assert 'typer.Option("127.0.0.1"' in command.read_text()


def test_a_failure_inside_tells_nothing(page, monkeypatch):
    def broken(question, asked):
        raise RuntimeError("secret in private/model.onnx")

    monkeypatch.setattr(page.server.engine, "answer", broken)
    status, body, _ = ask(page)
    assert status == 500 and b"secret" not in body and b"private" not in body


def dropped(page, name, raw, **fields):
    content = {"name": name, "content": base64.b64encode(raw).decode(), **fields}
    return ask(page, path="/api/model", body=json.dumps(content).encode())


def test_no_pickle_is_ever_loaded(page, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    np.savez(tmp_path / "trap.npz", W0=np.array([Trap()], dtype=object))
    status, body, _ = dropped(page, "trap.npz", (tmp_path / "trap.npz").read_bytes())
    assert status == 422 and not (tmp_path / "sprung").exists() and b"/" not in body
    for name in ("trap.pkl", "trap.pt", "trap.pth", "trap.npy"):
        assert dropped(page, name, pickle.dumps(Trap()))[0] == 422
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "place", ["/etc/hostname", "../../../../../../etc/hostname", "/proc/self/environ", "other.bin"]
)
def test_a_dropped_onnx_reads_no_other_file(page, place):
    """Weights "kept outside" in a file of this machine: nothing of it may come back."""
    import onnx
    from onnx import TensorProto, helper

    W = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[1, 1], data_location=TensorProto.EXTERNAL)
    W.external_data.add(key="location", value=place)
    W.external_data.add(key="length", value="4")
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1])
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "W"], ["y"])], "g", [value("x")], [value("y")], [W])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    assert isinstance(model, onnx.ModelProto)
    status, body, _ = dropped(page, "outside.onnx", model.SerializeToString())
    assert status == 422 and b"tmp" not in body and set(json.loads(body)) == {"error"}


def test_kept_files_are_found_by_their_key_alone(page):
    network = relukit.load({"W0": np.eye(3), "b0": np.ones(3), "W1": np.ones((1, 3)), "b1": np.zeros(1)})
    from relukit.explorer._answers import _KEPT_FILES, Engine

    engine = Engine()
    keys = []
    for k in range(_KEPT_FILES + 2):
        rows = np.random.default_rng(k).normal(size=(4, 3)).tolist()
        content = base64.b64encode(npz_of(network)).decode()
        keys.append(engine.model({"name": "n.npz", "content": content, "rows": rows})[0]["kept"])
    assert engine.model({"kept": keys[-1]})[0]["inputs"] == 3 and len(engine._opened) == _KEPT_FILES
    for key in (keys[0], "../../etc/passwd", 7, None):
        with pytest.raises(InvalidInput):
            engine.model({"kept": key})


def npz_of(network):
    chain, held = network.dense_chain(), io.BytesIO()
    arrays = {f"W{k}": W for k, W in enumerate(chain.weights)} | {f"b{k}": b for k, b in enumerate(chain.biases)}
    np.savez(held, **arrays)
    return held.getvalue()


def test_in_a_notebook_it_is_a_frame(page):
    assert f'src="{page.url}"' in page._repr_html_() and page.server.token not in repr(page)
