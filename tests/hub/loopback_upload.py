"""The upload side of the loopback Hub: repositories, LFS objects, commits."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from loopback_http import Exchange, Refusal, route
from loopback_store import GOOD_TOKEN, Content, Repository, StoredFile, kept_as_lfs

if TYPE_CHECKING:
    from loopback_hub import LoopbackHub

OWNER = "loopback-user"


def _writer(exchange: Exchange) -> None:
    """Refuse a token that may not write."""
    if exchange.request_record.token != GOOD_TOKEN:
        raise Refusal(401, "Invalid username or password.")


def _writable(hub: LoopbackHub, exchange: Exchange, name: str) -> Repository:
    _writer(exchange)
    return hub.visible(exchange, name)


@route("GET", r"/api/whoami-v2")
def get_whoami(hub: LoopbackHub, exchange: Exchange) -> None:
    _writer(exchange)
    exchange.send_json(
        {"type": "user", "name": OWNER, "orgs": [], "auth": {"accessToken": {"role": "write"}}}
    )


@route("POST", r"/api/validate-yaml")
def post_validate_yaml(hub: LoopbackHub, exchange: Exchange) -> None:
    exchange.send_json({"errors": [], "warnings": []})


@route("POST", r"/api/repos/create")
def post_create(hub: LoopbackHub, exchange: Exchange) -> None:
    _writer(exchange)
    wish = json.loads(exchange.body)
    name = f"{wish.get('organization') or OWNER}/{wish['name']}"
    url = f"{hub.endpoint}/{name}"
    if name in hub.repositories:
        exchange.send_json({"error": "You already created this model repo", "url": url}, status=409)
        return
    repository = Repository(
        name=name, private=wish.get("visibility") == "private" or bool(wish.get("private"))
    )
    repository.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, message="initial commit")
    hub.repositories[name] = repository
    exchange.send_json({"url": url, "name": name, "id": name})


@route("POST", r"/api/models/{repo:repo}/branch/{branch}")
def post_branch(hub: LoopbackHub, exchange: Exchange, repo: str, branch: str) -> None:
    repository = _writable(hub, exchange, repo)
    if branch in repository.branches:
        raise Refusal(409, f"Reference already exists: refs/heads/{branch}")
    start = json.loads(exchange.body or b"{}").get("startingPoint", "main")
    repository.branches[branch] = hub.commit_of(repository, start)
    exchange.send_json({})


@route("POST", r"/api/models/{repo:repo}/preupload/{revision}")
def post_preupload(hub: LoopbackHub, exchange: Exchange, repo: str, revision: str) -> None:
    """Say for each file how it is to be sent, and what is there under its name."""
    repository = _writable(hub, exchange, repo)
    present = repository.commits[hub.commit_of(repository, revision)]
    answers = []
    for file in json.loads(exchange.body)["files"]:
        path = file["path"]
        answers.append(
            {
                "path": path,
                "uploadMode": "lfs" if kept_as_lfs(path, file["size"]) else "regular",
                "shouldIgnore": False,
                "oid": present[path].etag if path in present else None,
            }
        )
    exchange.send_json({"files": answers})


@route("POST", r"/{repo:repo}\.git/info/lfs/objects/batch")
def post_lfs_batch(hub: LoopbackHub, exchange: Exchange, repo: str) -> None:
    """Say where each LFS object is to be put; one that the Hub has need not be sent."""
    _writable(hub, exchange, repo)
    stored = _stored_objects(hub)
    objects = []
    for wanted in json.loads(exchange.body)["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in stored:
            entry["actions"] = {
                "upload": {"href": f"{hub.cdn}/upload/{wanted['oid']}?signature=loopback"},
                "verify": {"href": f"{hub.endpoint}/{repo}.git/info/lfs/objects/verify"},
            }
        objects.append(entry)
    exchange.send_json({"transfer": "basic", "objects": objects})


@route("PUT", r"/upload/{oid}")
def put_object(hub: LoopbackHub, exchange: Exchange, oid: str) -> None:
    if hashlib.sha256(exchange.body).hexdigest() != oid:
        raise Refusal(400, "The content does not have the announced digest")
    hub.objects[oid] = Content(exchange.body)
    exchange.send_json({})


@route("POST", r"/{repo:repo}\.git/info/lfs/objects/verify")
def post_lfs_verify(hub: LoopbackHub, exchange: Exchange, repo: str) -> None:
    wanted = json.loads(exchange.body)
    content = _stored_objects(hub).get(wanted["oid"])
    if content is None or content.size != wanted["size"]:
        raise Refusal(404, "Object does not exist")
    exchange.send_json({})


@route("POST", r"/api/models/{repo:repo}/commit/{revision}")
def post_commit(hub: LoopbackHub, exchange: Exchange, repo: str, revision: str) -> None:
    """Make one commit of what the lines of the body add and delete."""
    repository = _writable(hub, exchange, repo)
    lines = [json.loads(line) for line in exchange.body.splitlines() if line]
    header = next(line["value"] for line in lines if line["key"] == "header")
    base = hub.commit_of(repository, revision)
    if header.get("parentCommit") not in (None, base):
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files, deleted = _operations(hub, repository.commits[base], lines)
    branch, answer = revision, {}
    if "create_pr" in exchange.query:
        number = 1 + sum(name.startswith("refs/pr/") for name in repository.branches)
        branch = f"refs/pr/{number}"
        repository.branches[branch] = base
        answer["pullRequestUrl"] = f"{hub.endpoint}/{repo}/discussions/{number}"
    commit = repository.commit(files, branch=branch, message=header["summary"], delete=deleted)
    url = f"{hub.endpoint}/{repo}/commit/{commit}"
    exchange.send_json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": "", **answer})


def _operations(
    hub: LoopbackHub, present: dict[str, StoredFile], lines: list[dict]
) -> tuple[dict[str, bytes | Content], list[str]]:
    """Return the files that a commit adds and the paths that it deletes."""
    files: dict[str, bytes | Content] = {}
    deleted = []
    stored = _stored_objects(hub)
    for line in lines:
        key, value = line["key"], line["value"]
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            if value["oid"] not in stored:
                raise Refusal(400, f"LFS object {value['oid']} was never uploaded")
            files[value["path"]] = stored[value["oid"]]
        elif key in ("deletedFile", "deletedFolder"):
            path = value["path"].rstrip("/")
            if not any(name == path or name.startswith(f"{path}/") for name in present):
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            deleted.append(path)
    return files, deleted


def _stored_objects(hub: LoopbackHub) -> dict[str, Content]:
    """Return all LFS objects that the Hub has, from uploads and from repositories."""
    kept = {
        file.content.sha256: file.content
        for repository in hub.repositories.values()
        for files in repository.commits.values()
        for file in files.values()
        if file.lfs
    }
    return kept | hub.objects


HUB_ANSWERS = [
    get_whoami,
    post_validate_yaml,
    post_create,
    post_branch,
    post_preupload,
    post_lfs_batch,
    post_lfs_verify,
    post_commit,
]
CDN_ANSWERS = [put_object]
