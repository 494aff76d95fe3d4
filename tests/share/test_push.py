"""`push`, against a stand-in for the hub on loopback: what it is asked, what it is given, and that no token is shown.

Alone: pytest tests/share/test_push.py
"""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from probekit.cli import app
from probekit.restore.load import load

TOKEN = "hf_" + "secret" * 6


class Hub(ThreadingHTTPServer):
    """As much of the hub as one upload takes: a repository, which files are large, where they go, one commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.made: list[dict[str, Any]] = []
        self.large: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.status = 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *given: object) -> None: ...

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if path.startswith("/api/models") or path == "/api/repos/create":
            self.server.tokens.add(self.headers.get("authorization"))
        found = self._found(path, body)
        raw = json.dumps(found).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _found(self, path: str, body: bytes) -> dict[str, Any]:
        hub = self.server
        if hub.status != 200:
            return {"error": f"no such user with Bearer {TOKEN}"}
        if path == "/api/repos/create":
            hub.made.append(json.loads(body))
            return {"url": f"{hub.address}/me/shapes"}
        if "/preupload/" in path:
            files = [each["path"] for each in json.loads(body)["files"]]
            modes = {name: "regular" if name.endswith(".md") else "lfs" for name in files}
            return {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            put = {each["oid"]: {"upload": {"href": f"{hub.address}/put/{each['oid']}"}} for each in objects}
            return {"transfer": "basic", "objects": [{**each, "actions": put[each["oid"]]} for each in objects]}
        if path.startswith("/put/"):
            hub.large[path.removeprefix("/put/")] = body
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                given = line["value"]
                if line["key"] == "file":
                    hub.files[given["path"]] = base64.b64decode(given["content"])
                elif line["key"] == "lfsFile":
                    hub.files[given["path"]] = hub.large[given["oid"]]
            return {"commitUrl": f"{hub.address}/me/shapes/commit/1", "commitOid": "1" * 40}
        return {}

    do_GET = do_POST = do_PUT = answer  # noqa: N815  names of the standard library


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """What HF_ENDPOINT and HF_TOKEN say when the package is imported."""
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


def push(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["push", *words])
    return done.exit_code, done.output + (str(done.exception) if isinstance(done.exception, ValueError) else "")


def test_the_hub_gets_weights_and_card_and_no_token_is_shown(home: Path, hub: Hub) -> None:
    code, told = push("mine", "me/shapes", "--private")
    assert code == 0, told
    assert f"pushed model.safetensors and README.md of mine to {hub.address}/me/shapes" in told
    assert TOKEN not in told
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert [(made["name"], made["organization"], made["visibility"]) for made in hub.made] == [
        ("shapes", "me", "private")
    ]
    assert hub.files.keys() == {"model.safetensors", "README.md"}
    Path("got.safetensors").write_bytes(hub.files["model.safetensors"])
    found = load("unet", weights="got.safetensors", channels=1, size=16, device="cpu").encoder.state_dict()
    ours = load("mine", device="cpu").encoder.state_dict()
    assert {key: value.tolist() for key, value in found.items()} == {key: v.tolist() for key, v in ours.items()}
    assert b"# license: yours to choose" in hub.files["README.md"]
    assert sum("/commit/" in asked for asked in hub.asked) == 1


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_hub_that_refuses_is_one_line_without_a_token(status: int, home: Path, hub: Hub) -> None:
    hub.status = status
    code, told = push("mine", "me/shapes")
    assert code == 1
    assert f"expected that {hub.address} takes me/shapes, found: " in told
    assert "hf auth login" in told
    assert TOKEN not in told
    assert "\n" not in told.strip()


def test_odd_wishes_are_refused_before_anything_is_sent(
    home: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for words, expected in {
        ("mine", "a b"): "expected a repository USER/NAME, found 'a b'",
        ("mine", "me/it", "--to", "pt"): "unknown format 'pt'",
        ("nosuch", "me/it"): "unknown run 'nosuch'",
    }.items():
        code, told = push(*words)
        assert (code, expected in told) == (1, True), told
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, told = push("mine", "me/it")
    assert code == 1
    assert "type: pip install huggingface_hub" in told
    assert hub.asked == []
