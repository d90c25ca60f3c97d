"""A Hub on this machine: what `huggingface_hub` asks of the real one, answered over real sockets.

Two hosts listen, as on the real Hub: the Hub itself and a content host ("cdn"), to which LFS files are
redirected and which must never see a token.

Example:
    with LoopbackHub() as hub:
        commit = hub.add_repo("org/name", {"config.json": b"{}"})
        hub.endpoint  # for HF_ENDPOINT
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote

import loopback_upload
from loopback_http import Exchange, Fault, Refusal, Request, Site, route
from loopback_store import GOOD_TOKEN, Content, Repository, StoredFile, files_below

PAGE = 1000
"""Entries of a tree that the real Hub sends at a time."""


class LoopbackHub:
    """A running Hub. Attributes may be read at any time; methods may be called while clients are connected.

    Attributes:
        requests: Every request so far, in the order of arrival.
        page: Entries of a tree per page.
        home: The client's HF_HOME, where a fixture has set one.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, Content] = {}
        self.requests: list[Request] = []
        self.page = PAGE
        self.home: Path | None = None
        self._faults: dict[tuple[str, str], Fault] = {}
        self._trouble: list[tuple[int, str]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on two free ports of the loopback interface."""
        # Two names, so that a client that compares hosts without ports tells them apart too.
        self._hub = Site("hub", "127.0.0.1", self, [*HUB_ANSWERS, *loopback_upload.HUB_ANSWERS])
        self._cdn = Site("cdn", "localhost", self, [get_object, *loopback_upload.CDN_ANSWERS])

    def stop(self) -> None:
        """Go away in the middle of things: connections break, new ones are refused. May be called twice."""
        for site in (self._hub, self._cdn):
            if site.thread.is_alive():
                site.stop()

    @property
    def endpoint(self) -> str:
        """The address for HF_ENDPOINT."""
        return self._hub.url

    @property
    def cdn(self) -> str:
        """The address of the content host."""
        return self._cdn.url

    # Repositories

    def add_repo(
        self,
        name: str,
        files: Mapping[str, bytes | Path] | None = None,
        *,
        folder: Path | None = None,
        branch: str = "main",
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """Make a repository of files given as bytes or paths, or of a folder's, and return its first commit."""
        self.repositories[name] = Repository(name=name, gated=gated, private=private)
        return self.commit(name, {**(files_below(folder) if folder else {}), **(files or {})}, branch=branch)

    def commit(
        self,
        name: str,
        files: Mapping[str, bytes | Path],
        *,
        branch: str = "main",
        delete: Iterable[str] = (),
    ) -> str:
        """Add a commit to a branch, which is made if it is new, and return it."""
        return self.repositories[name].commit(files, branch=branch, delete=delete)

    def tag(self, name: str, tag: str, commit: str) -> None:
        """Give a commit a name that stays."""
        self.repositories[name].tags[tag] = commit

    # Faults

    def cut(self, name: str, path: str, *, after: int, times: int | None = 1) -> None:
        """Break the connection when so many bytes of a file have been sent."""
        self._faults[name, path] = Fault(cut=after, times=times)

    def serve_instead(self, name: str, path: str, data: bytes, *, times: int | None = None) -> None:
        """Send other bytes than were announced: fewer, more, or wrong ones."""
        self._faults[name, path] = Fault(content=data, times=times)

    def ignore_ranges(self, name: str, path: str, *, times: int | None = None) -> None:
        """Send the whole file whatever part of it is asked for."""
        self._faults[name, path] = Fault(ranges=False, times=times)

    def slow(self, name: str, path: str, *, seconds: float, times: int | None = None) -> None:
        """Wait before the first byte of a file."""
        self._faults[name, path] = Fault(delay=seconds, times=times)

    def answer_with(self, status: int, *, path: str = "", times: int = 1) -> None:
        """Answer the next requests whose path holds some text with a bare HTTP status."""
        with self._lock:
            self._trouble += [(status, path)] * times

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()
            self._trouble.clear()

    # The log

    def log(self, method: str = "", path: str = "", *, site: str = "") -> list[Request]:
        """Return the requests of a method and a site whose path holds some text; all where nothing is said."""
        return [
            request
            for request in self.requests
            if method in ("", request.method) and path in request.path and site in ("", request.site)
        ]

    def bytes_sent(self, path: str) -> int:
        """Return how many bytes of a file went over the wire, from either host."""
        return sum(
            request.sent for request in self.log("GET", f"/{quote(path)}") if "/api/" not in request.path
        )

    # For the answers

    def interfere(self, exchange: Exchange) -> None:
        """Answer with trouble if some was ordered for this request."""
        with self._lock:
            for number, (status, path) in enumerate(self._trouble):
                if path in exchange.path:
                    del self._trouble[number]
                    raise Refusal(status, "trouble was ordered")

    def fault(self, name: str, path: str) -> Fault | None:
        """Take a fault that was ordered for a file."""
        with self._lock:
            fault = self._faults.get((name, path))
            if fault is not None and fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    del self._faults[name, path]
            return fault

    def visible(self, exchange: Exchange, name: str) -> Repository:
        """Return a repository that the token may see; the Hub does not tell the hidden from the missing."""
        repository = self.repositories.get(name)
        token = exchange.request_record.token
        if repository is not None and (not repository.private or token == GOOD_TOKEN):
            return repository
        if token is None:
            # The client knows this answer by itself over HTTPS; over plain HTTP it needs the code.
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        raise Refusal(404, "Repository not found", "RepoNotFound")

    def commit_of(self, repository: Repository, revision: str) -> str:
        """Return the commit of a revision."""
        commit = repository.resolve(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


@route("GET", r"/api/models/{repo:repo}(?:/revision/{revision})?")
def get_model(hub: LoopbackHub, exchange: Exchange, repo: str, revision: str = "main") -> None:
    repository = hub.visible(exchange, repo)
    commit = hub.commit_of(repository, revision)
    blobs = "blobs" in exchange.query
    exchange.send_json(
        {
            "_id": commit[:24],
            "id": repo,
            "modelId": repo,
            "sha": commit,
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "tags": [],
            "siblings": [_sibling(file, blobs) for file in repository.commits[commit].values()],
        }
    )


def _sibling(file: StoredFile, blobs: bool) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": file.path}
    if blobs:
        entry |= {"size": file.content.size, "blobId": file.blob_id}
        if file.lfs:
            entry["lfs"] = {
                "sha256": file.content.sha256,
                "size": file.content.size,
                "pointerSize": len(file.pointer),
            }
    return entry


def _tree_entry(file: StoredFile) -> dict[str, object]:
    entry: dict[str, object] = {
        "type": "file",
        "path": file.path,
        "size": file.content.size,
        "oid": file.blob_id,
    }
    if file.lfs:
        entry["lfs"] = {
            "oid": file.content.sha256,
            "size": file.content.size,
            "pointerSize": len(file.pointer),
        }
    return entry


@route("GET", r"/api/models/{repo:repo}/tree/{revision}(?:/{below:rest})?")
def get_tree(hub: LoopbackHub, exchange: Exchange, repo: str, revision: str, below: str = "") -> None:
    repository = hub.visible(exchange, repo)
    files = repository.commits[hub.commit_of(repository, revision)].values()
    prefix = f"{below}/" if below else ""
    inside = [file for file in files if file.path.startswith(prefix)]
    if below and not inside:
        raise Refusal(404, f"{below} does not exist", "EntryNotFound")
    folders = {
        prefix + "/".join(parts[:depth])
        for file in inside
        for parts in [file.path.removeprefix(prefix).split("/")]
        for depth in range(1, len(parts))
    }
    entries = [_tree_entry(file) for file in inside]
    entries += [
        {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in sorted(folders)
    ]
    if exchange.query.get("recursive", "").lower() != "true":
        entries = [entry for entry in entries if "/" not in str(entry["path"]).removeprefix(prefix)]
    start = int(exchange.query.get("cursor", "0"))
    headers = {}
    if start + hub.page < len(entries):
        recursive = exchange.query.get("recursive", "false")
        address = f"{hub.endpoint}{exchange.path.partition('?')[0]}"
        headers["Link"] = f'<{address}?recursive={recursive}&cursor={start + hub.page}>; rel="next"'
    exchange.send_json(entries[start : start + hub.page], headers=headers)


@route("POST", r"/api/models/{repo:repo}/paths-info/{revision}")
def post_paths_info(hub: LoopbackHub, exchange: Exchange, repo: str, revision: str) -> None:
    repository = hub.visible(exchange, repo)
    files = repository.commits[hub.commit_of(repository, revision)]
    paths = parse_qs(exchange.body.decode()).get("paths", [])
    exchange.send_json([_tree_entry(files[path]) for path in paths if path in files])


@route("GET", r"/api/models/{repo:repo}/refs")
def get_refs(hub: LoopbackHub, exchange: Exchange, repo: str) -> None:
    repository = hub.visible(exchange, repo)

    def listed(kind: str, names: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": names[name]} for name in names]

    branches, tags = listed("heads", repository.branches), listed("tags", repository.tags)
    exchange.send_json({"branches": branches, "tags": tags, "converts": []})


@route("GET HEAD", r"/{repo:repo}/resolve/{revision}/{path:rest}")
def get_file(hub: LoopbackHub, exchange: Exchange, repo: str, revision: str, path: str) -> None:
    repository = hub.visible(exchange, repo)
    commit = hub.commit_of(repository, revision)
    headers: dict[str, object] = {"X-Repo-Commit": commit}
    token = exchange.request_record.token
    if repository.gated and token != GOOD_TOKEN:
        raise Refusal(403 if token else 401, f"Access to model {repo} is restricted.", "GatedRepo")
    file = repository.commits[commit].get(path)
    if file is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit})
    if file.lfs:
        headers |= {"X-Linked-Size": file.content.size, "X-Linked-Etag": f'"{file.etag}"'}
        exchange.send_redirect(f"{hub.cdn}/{repo}/{commit}/{quote(path)}?signature=loopback", headers)
        return
    headers["ETag"] = f'"{file.etag}"'
    exchange.send_content(
        file.content, headers, None if exchange.command == "HEAD" else hub.fault(repo, path)
    )


@route("GET HEAD", r"/{repo:repo}/{commit:sha}/{path:rest}")
def get_object(hub: LoopbackHub, exchange: Exchange, repo: str, commit: str, path: str) -> None:
    """Give an LFS file out to whoever has the signed address."""
    if exchange.query.get("signature") != "loopback":
        raise Refusal(403, "The address is not signed")
    file = hub.repositories[repo].commits[commit][path]
    exchange.send_content(file.content, {"ETag": f'"{file.etag}"'}, hub.fault(repo, path))


@route("GET", r"/api/agent-harnesses")
def get_agent_harnesses(hub: LoopbackHub, exchange: Exchange) -> None:
    """Answer a question that the client asks once a day, about the program that uses it."""
    exchange.send_json({"standardEnvVars": [], "harnesses": {}})


# `get_model` last: its path is the beginning of the others'.
HUB_ANSWERS = [get_tree, post_paths_info, get_refs, get_file, get_agent_harnesses, get_model]
