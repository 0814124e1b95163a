"""A stand-in for the cluster's API: real HTTP on loopback, with what a client must live with.

Versions of objects and of lists, optimistic locking (409), watches with bookmarks that expire (410),
owners of fields, and schemas. After Kubernetes' "API concepts" and "Server-side apply".
"""

from __future__ import annotations

import copy
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.knative.schemas import Refused, check

PATH = re.compile(
    r"/apis/(?P<group>[^/]+)/v1(?:/namespaces/(?P<namespace>[^/]+))?/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?"
)
BOOKMARK_S = 0.2
KINDS = {
    "revisions": ("serving.knative.dev", "Revision"),
    "leases": ("coordination.k8s.io", "Lease"),
}
Object = dict[str, Any]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Write:
    """One that changed something."""

    verb: str
    kind: str
    name: str
    manager: str
    body: Object


class Failure(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.code, self.reason = code, reason


@dataclass
class Cluster:
    """What is stored, and every change of it."""

    objects: dict[Key, Object] = field(default_factory=dict)
    changes: list[tuple[int, str, Object]] = field(default_factory=list)
    version: int = 100
    oldest: int = 100
    """Changes before it are forgotten."""
    writes: list[Write] = field(default_factory=list)
    asked: set[tuple[str, str]] = field(default_factory=set)
    """(verb, resource), as RBAC sees them."""
    conflicts: int = 0
    """Answers with 409."""
    expired: int = 0
    """Watches that ended with 410."""
    watches: int = 0
    bookmarks: int = 0
    down: bool = False
    """Answers 503."""
    before_patch: Callable[[], None] | None = None
    lock: threading.Condition = field(default_factory=threading.Condition)

    def put(self, kind: str, made: Object, manager: str = "test") -> Object:
        """Creates or replaces, whatever version there is."""
        with self.lock:
            meta = made["metadata"]
            key = (kind, meta["namespace"], meta["name"])
            before = self.objects.get(key)
            check(kind, made, None)
            self.version += 1
            made = copy.deepcopy(made)
            made["metadata"]["resourceVersion"] = str(self.version)
            made["metadata"]["managedFields"] = _managed(before, made, manager)
            self.objects[key] = made
            self._changed("ADDED" if before is None else "MODIFIED", made)
            return copy.deepcopy(made)

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[Object], None]) -> None:
        """As somebody else does."""
        with self.lock:
            made = copy.deepcopy(self.objects[kind, namespace, name])
            change(made)
            self.put(kind, made)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        with self.lock:
            gone = self.objects.pop((kind, namespace, name))
            self.version += 1
            gone["metadata"]["resourceVersion"] = str(self.version)
            self._changed("DELETED", gone)

    def expire(self) -> None:
        """Forgets the past, and ends every watch that would have to know of it."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
            self.changes.clear()
            self.lock.notify_all()

    def annotations(self, namespace: str, name: str) -> dict[str, str]:
        with self.lock:
            meta = self.objects["revisions", namespace, name]["metadata"]
            return dict(meta.get("annotations", {}))

    def _changed(self, kind: str, made: Object) -> None:
        self.changes.append((self.version, kind, copy.deepcopy(made)))
        self.lock.notify_all()


def _managed(before: Object | None, made: Object, manager: str) -> list[Object]:
    """Who owns each annotation: whoever changed it last (of Update)."""
    owners: dict[str, str] = {}
    if before is not None:
        for each in before["metadata"].get("managedFields", ()):
            for name in each["fieldsV1"]["f:metadata"]["f:annotations"]:
                owners[name.removeprefix("f:")] = each["manager"]
    old = {} if before is None else before["metadata"].get("annotations", {})
    new = made["metadata"].get("annotations", {})
    for name in {*old, *new}:
        if old.get(name) != new.get(name):
            owners[name] = manager
    by: dict[str, dict[str, Object]] = {}
    for name in new:
        by.setdefault(owners.get(name, manager), {})[f"f:{name}"] = {}
    return [
        {
            "manager": each,
            "operation": "Update",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:annotations": names}},
        }
        for each, names in by.items()
    ]


def merged(before: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    made = dict(before) if isinstance(before, dict) else {}
    for name, each in patch.items():
        if each is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), each)
    return made


class StandIn:
    """Serves a Cluster."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.ended = False
        stand_in = self

        class Handler(_Handler):
            cluster = stand_in.cluster
            owner = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.ended = True
        with self.cluster.lock:
            self.cluster.lock.notify_all()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    owner: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Not worth a line."""

    def do_GET(self) -> None:
        self._do("get")

    def do_POST(self) -> None:
        self._do("create")

    def do_PUT(self) -> None:
        self._do("update")

    def do_PATCH(self) -> None:
        self._do("patch")

    def _do(self, verb: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        parts = urlsplit(self.path)
        query = {name: each[0] for name, each in parse_qs(parts.query).items()}
        found = PATH.fullmatch(parts.path)
        try:
            if self.cluster.down:
                raise Failure(503, "ServiceUnavailable")
            if found is None or KINDS.get(found["kind"], ("",))[0] != found["group"]:
                raise Failure(404, "NotFound", f"no such path {parts.path}")
            if verb == "get" and found["name"] is None:
                verb = "watch" if query.get("watch") == "true" else "list"
            self.cluster.asked.add((verb, found["kind"]))
            if verb == "watch":
                self._watch(found["kind"], found["namespace"], query)
                return
            with self.cluster.lock:
                self._answer(200, self._made(verb, found, query, body))
        except Failure as failure:
            self.cluster.conflicts += failure.code == 409
            self._answer(failure.code, _status(failure.code, failure.reason, str(failure)))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _made(self, verb: str, at: re.Match[str], query: dict[str, str], body: Object) -> Object:
        cluster, kind, namespace = self.cluster, at["kind"], at["namespace"]
        if verb == "list":
            items = [
                copy.deepcopy(each)
                for key, each in sorted(cluster.objects.items())
                if key[0] == kind and namespace in (None, key[1])
            ]
            meta = {"resourceVersion": str(cluster.version)}
            return {
                "kind": f"{KINDS[kind][1]}List",
                "apiVersion": "v1",
                "metadata": meta,
                "items": items,
            }
        name = at["name"] or body["metadata"]["name"]
        if verb == "patch" and cluster.before_patch is not None:
            cluster.before_patch()
        before = cluster.objects.get((kind, namespace, name))
        if verb == "create":
            if before is not None:
                raise Failure(409, "AlreadyExists")
        elif before is None:
            raise Failure(404, "NotFound", f"{name} not found")
        if verb == "get":
            return copy.deepcopy(before or {})
        made = body
        if verb == "patch":
            if self.headers["Content-Type"] != "application/merge-patch+json":
                raise Failure(415, "UnsupportedMediaType")
            made = merged(before, body)
        wanted = body["metadata"].get("resourceVersion")
        if before is not None and wanted and wanted != before["metadata"]["resourceVersion"]:
            raise Failure(409, "Conflict", "the object has been modified")
        if verb == "update" and not wanted:
            raise Failure(422, "Invalid", "metadata.resourceVersion: must be specified")
        made["metadata"].pop("managedFields", None)
        try:
            if before is not None and kind == "revisions":
                check(kind, made, before)
            if before is not None and _same(before, made):
                return copy.deepcopy(before)
            manager = query.get("fieldManager", "unknown")
            cluster.writes.append(Write(verb, kind, name, manager, body))
            return cluster.put(kind, made, manager)
        except Refused as refused:
            raise Failure(422, "Invalid", str(refused)) from None

    def _watch(self, kind: str, namespace: str | None, query: dict[str, str]) -> None:
        cluster, at = self.cluster, int(query.get("resourceVersion") or 0)
        marks = query.get("allowWatchBookmarks") == "true"
        end_s = time.monotonic() + float(query.get("timeoutSeconds") or 300)
        cluster.watches += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.owner.ended and not cluster.down and time.monotonic() < end_s:
            with cluster.lock:
                if at < cluster.oldest:
                    cluster.expired += 1
                    gone = _status(410, "Expired", "too old resource version")
                    self._event("ERROR", gone)
                    break
                news = [each for each in cluster.changes if each[0] > at]
                mark = False
                if not news:
                    cluster.lock.wait(BOOKMARK_S)
                    mark = marks and not any(each[0] > at for each in cluster.changes)
                    mark = mark and at >= cluster.oldest
                    at = cluster.version if mark else at
            if mark:
                cluster.bookmarks += 1
                bare = {"apiVersion": f"{KINDS[kind][0]}/v1", "kind": KINDS[kind][1]}
                self._event("BOOKMARK", {**bare, "metadata": {"resourceVersion": str(at)}})
            for version, change, made in news:
                at = version
                meta = made["metadata"]
                if made["kind"] == KINDS[kind][1] and namespace in (None, meta["namespace"]):
                    self._event(change, made)
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _event(self, kind: str, made: Object) -> None:
        line = json.dumps({"type": kind, "object": made}).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def _answer(self, code: int, body: Object) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _same(before: Object, made: Object) -> bool:
    def bare(each: Object) -> Object:
        meta = {
            name: value
            for name, value in each["metadata"].items()
            if name not in ("resourceVersion", "managedFields")
        }
        return {**each, "metadata": meta}

    return bare(before) == bare(made)


def _status(code: int, reason: str, text: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": reason,
        "code": code,
    }
