"""A local server that speaks as much of the Hub's protocol as its own client asks for: `HF_ENDPOINT` points to it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pickle
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow
import pyarrow.parquet
import yaml


@dataclass
class Repo:
    """One repository at one commit."""

    kind: str
    """models or datasets"""
    id: str
    files: dict[str, bytes]
    gated: bool = False
    private: bool = False

    @property
    def commit(self) -> str:
        parts = sorted((path, hashlib.sha1(content).hexdigest()) for path, content in self.files.items())
        return hashlib.sha1(json.dumps([self.id, parts]).encode()).hexdigest()

    @property
    def info(self) -> dict[str, Any]:
        return {
            "_id": self.commit[:24],
            "id": self.id,
            "modelId": self.id,
            "sha": self.commit,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in sorted(self.files)],
        }

    def entry(self, path: str) -> dict[str, Any]:
        content = self.files[path]
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}

    def tree(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        prefix, entries, folders = below.strip("/") + "/" if below.strip("/") else "", [], set()
        for path in sorted(self.files):
            if not path.startswith(prefix):
                continue
            inner = path.removeprefix(prefix).split("/")
            ends = ["/".join(inner[:n]) for n in range(1, len(inner))]
            folders |= {prefix + end for end in (ends if recursive else ends[:1])}
            if recursive or len(inner) == 1:
                entries.append(self.entry(path))
        return [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in sorted(folders)] + entries


@dataclass
class Hub:
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    """large files, by their digest"""
    endpoint: str = ""

    def add(self, kind: str, id: str, files: dict[str, bytes] | Path, gated: bool = False) -> Repo:
        if isinstance(files, Path):
            files = {str(p.relative_to(files)): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        repo = self.repos[kind, id] = Repo(kind, id, files, gated)
        return repo


def answer(
    hub: Hub, method: str, path: str, query: dict[str, list[str]], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of one request."""
    parts = [part for part in path.split("/") if part]
    api = parts[:1] == ["api"]
    if api:
        parts = parts[1:]
    kind = parts.pop(0) if parts and parts[0] in ("datasets", "models") else "models"
    repo = hub.repos.get((kind, "/".join(parts[:2])))
    rest = parts[2:]
    if repo is None:
        return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
    if api:
        revision = unquote(rest[1]) if len(rest) > 1 else "main"
        if revision not in ("main", repo.commit):
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
        if not rest or rest[0] == "revision":
            return 200, {"Content-Type": "application/json"}, json.dumps(repo.info).encode()
        if rest[0] == "tree":
            entries = repo.tree("/".join(rest[2:]), query.get("recursive", ["False"])[0].lower() in ("true", "1"))
            return 200, {"Content-Type": "application/json"}, json.dumps(entries).encode()
        if rest[0] == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode()).get("paths", [])
            folders = {e["path"]: e for e in repo.tree("", True) if e["type"] == "directory"}
            found = [
                repo.entry(p) if p in repo.files else folders[p] for p in wanted if p in repo.files or p in folders
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()
        return 404, {}, b""
    if rest[:1] == ["resolve"]:
        name = unquote("/".join(rest[2:]))
        if repo.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted"}, b""
        if rest[1] not in ("main", repo.commit):
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
        if name not in repo.files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit}, b""
        content = repo.files[name]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": repo.commit}
        return 200, {**headers, "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}, content
    return 404, {}, b""


TOKEN = "hf_of_the_tests"
"""the only one that may write"""


def upload(hub: Hub, path: str, body: bytes, token: str) -> tuple[int, dict[str, str], bytes] | None:
    """What the Hub answers to the requests of an upload; None: the request is none of these."""
    if path == "/api/validate-yaml":
        errors = wrong_in_card(json.loads(body)["content"])
        found = {"errors": [{"message": each} for each in errors], "warnings": []}
        return (400 if errors else 200), JSON, json.dumps(found).encode()
    parts = [part for part in path.split("/") if part]
    creates = path == "/api/repos/create"
    large = path.endswith(".git/info/lfs/objects/batch") or parts[:1] == ["large"]
    if not creates and not large and (parts[:2] != ["api", "models"] or parts[4:5] not in (["preupload"], ["commit"])):
        return None
    if parts[:1] == ["large"]:  # its address is a secret of its own
        assert hashlib.sha256(body).hexdigest() == parts[1]
        hub.uploaded[parts[1]] = body
        return 200, {}, b""
    if token != f"Bearer {TOKEN}":
        return 401, {**JSON, "X-Error-Message": "Invalid username or password."}, b"{}"
    if creates:
        asked = json.loads(body)
        id = f"{asked['organization']}/{asked['name']}"
        if ("models", id) in hub.repos:
            return 409, JSON, json.dumps({"url": f"{hub.endpoint}/{id}"}).encode()
        hub.add("models", id, {}).private = asked.get("visibility") == "private"
        return 200, JSON, json.dumps({"url": f"{hub.endpoint}/{id}", "name": id}).encode()
    if path.endswith("/batch"):
        objects = [
            {**each, "actions": {"upload": {"href": f"{hub.endpoint}/large/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        return 200, JSON, json.dumps({"transfer": "basic", "objects": objects}).encode()
    repo = hub.repos["models", "/".join(parts[2:4])]
    if parts[4] == "preupload":
        files = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for each in json.loads(body)["files"]
        ]
        return 200, JSON, json.dumps({"files": files}).encode()
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            repo.files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            repo.files[value["path"]] = hub.uploaded[value["oid"]]
    done = {"success": True, "commitOid": repo.commit, "commitUrl": f"{hub.endpoint}/{repo.id}/commit/{repo.commit}"}
    return 200, JSON, json.dumps(done).encode()


JSON = {"Content-Type": "application/json"}
LICENCES = ("apache-2.0", "mit", "other", "unknown")
REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")


def wrong_in_card(content: str) -> list[str]:
    """What the Hub's own check of a card refuses, as far as we know it: licence, base model, data sets, model-index."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    try:
        card = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as error:
        return [f"YAML: {error}"]
    found = []
    if card.get("license", "unknown") not in LICENCES:
        found.append('"license" must be one of the known licenses')
    for key in ("base_model", "datasets"):
        values = card.get(key) or []
        odd = [each for each in (values if isinstance(values, list) else [values]) if not REPO_ID.fullmatch(str(each))]
        found += [f'"{key}" with value "{each}" is not valid. Use an id from the Hub.' for each in odd]
    if card.get("base_model_relation", "adapter") not in ("adapter", "finetune", "merge", "quantized"):
        found.append('"base_model_relation" is not valid')
    if not all(isinstance(tag, str) for tag in card.get("tags", [])):
        found.append('"tags" must be strings')
    for model in card.get("model-index", []):
        if not isinstance(model.get("name"), str):
            found.append('"model-index[0].name" must be a string')
        for result in model["results"]:
            if not isinstance(result["task"].get("type"), str):
                found.append('"task.type" must be a string')
            if not all(isinstance(result["dataset"].get(key), str) for key in ("type", "name")):
                found.append('"dataset.type" and "dataset.name" must be strings')
            if not all("type" in each and isinstance(each.get("value"), int | float) for each in result["metrics"]):
                found.append('"metrics" need a type and a value')
    return found


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub on a free port of loopback, for as long as the block lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = None
            if self.command in ("POST", "PUT"):
                found = upload(hub, unquote(url.path), body, self.headers.get("Authorization") or "")
            status, headers, content = found or answer(hub, self.command, unquote(url.path), parse_qs(url.query), body)
            hub.requests.append(f"{self.command} {self.path} {status}")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def around(endpoint: str, folder: Path) -> dict[str, str]:
    """The environment of a process that knows this Hub only, and has nothing in its cache."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**others, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf")}


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def livecodebench_row(number: int, date: str, platform: str = "atcoder", difficulty: str = "easy") -> dict[str, Any]:
    hidden = json.dumps([{"input": f"{n}\n", "output": f"{n * 2}\n", "testtype": "stdin"} for n in range(3)])
    return {
        "question_title": "Double",
        "question_content": f"Read one integer N. Print N times 2. ({number})",
        "platform": platform,
        "question_id": f"abc{number}_a",
        "contest_id": f"abc{number}",
        "contest_date": f"{date}T00:00:00",
        "starter_code": "",
        "difficulty": difficulty,
        "public_test_cases": json.dumps([{"input": "21\n", "output": "42\n", "testtype": "stdin"}]),
        "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(hidden))).decode(),
        "metadata": "{}",
    }
