"""Pushing a model to the Hub: saved as into any folder, uploaded in one commit with the Hub's own client."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadstone.backend.model import called
from loadstone.checkpoint.formats.names import weight_patterns
from loadstone.errors import ArgumentError, SourceError, nearest
from loadstone.save.story import save_pretrained
from loadstone.source.cache import RepositoryCache
from loadstone.source.hub_errors import Repository, plain_errors

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from loadstone.backend import Model


def push_to_hub(
    model: Model,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    state_dict: Mapping[str, Any] | None = None,
) -> CommitInfo:
    """Save a model into a repository on the Hub, from any backend the same files byte for byte.

    The model is saved into a temporary folder first (`TMPDIR` says where), so the disk must have room for it. The
    commit also removes what is left of earlier weights under other names; other files of the repository stay.

    Args:
        model: A model of any backend.
        repo_id: "org/name", or "name" in your own namespace; made where absent.
        token: An access token; None or True: the stored one, or HF_TOKEN.
        private: Whether a repository that is made is private; None: as your organisation has it.
        commit_message: What the commit says; "Upload" and the class name where absent.
        revision: The branch to commit to, made where absent; None: `main`.
        create_pr: Open a pull request against `main` instead.
        max_shard_size: As in `save_pretrained`.
        variant: As in `save_pretrained`.
        state_dict: As in `save_pretrained`.

    Returns:
        The client's account of the commit: `.oid`, `.commit_url`, `.pr_url`.

    Raises:
        SourceError: If there is no token, it may not write there, or the Hub cannot be reached.
        ArgumentError: If the repository's id is none, or arguments contradict each other.
    """
    from huggingface_hub import HfApi

    from loadstone import __version__

    repository = _repository(repo_id, revision, token)
    _refuse(repository, create_pr)
    api = HfApi(token=token, library_name="loadstone", library_version=__version__)
    with _writing(repository):
        name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(name, branch=revision, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="loadstone-") as folder:
            save_pretrained(
                model, folder, max_shard_size=max_shard_size, variant=variant, state_dict=state_dict
            )
            return api.upload_folder(
                repo_id=name,
                folder_path=folder,
                commit_message=commit_message or f"Upload {called(type(model))}",
                revision=revision,
                create_pr=create_pr,
                delete_patterns=weight_patterns(variant),
            )


PUSHING = ("repo_id", "private", "commit_message", "revision", "create_pr")
"""What `save_pretrained(push_to_hub=True)` passes on beside the token, the size of shards and the variant."""


def check_pushing(
    folder: str | os.PathLike[str], pushing: dict[str, Any], *, token: str | bool | None, wanted: bool
) -> str:
    """Return the repository that a saved model is pushed to, and take it out of `pushing`.

    Args:
        folder: Where the model is saved; a repository that is not named has its name.
        pushing: The arguments of `save_pretrained` that are not its own.
        token: As in `push_to_hub`.
        wanted: Whether there is a push at all.

    Raises:
        ArgumentError: If an argument is unknown, or says something of a push that is not asked for.
        SourceError: If there is no token, or the Hub may not be asked.
    """
    for name in pushing:
        if name not in PUSHING:
            raise ArgumentError(
                f"save_pretrained() knows no argument {name!r}",
                hint=nearest(name, PUSHING) or "see the documentation of loadstone.pretrained.Pretrained",
            )
        if not wanted:
            raise ArgumentError(
                f"{name}= says how to push, and nothing is pushed", hint="add push_to_hub=True"
            )
    repo_id: str = pushing.pop("repo_id", None) or Path(folder).name
    if wanted:
        _refuse(_repository(repo_id, pushing.get("revision"), token), bool(pushing.get("create_pr")))
    return repo_id


def _repository(repo_id: str, revision: str | None, token: str | bool | None) -> Repository:
    from huggingface_hub import constants

    cache = RepositoryCache.of(repo_id, constants.HF_HUB_CACHE)
    return Repository(name=repo_id, revision=revision or "main", cache=cache, token=token)


def _refuse(repository: Repository, create_pr: bool) -> None:
    """Raise what can be known without asking the Hub."""
    from huggingface_hub import constants, get_token

    if create_pr and repository.revision != "main":
        raise ArgumentError(
            "a pull request is opened against `main`",
            found=f"create_pr=True and revision={repository.revision!r}",
            hint="leave one of the two out",
        )
    if constants.HF_HUB_OFFLINE:
        raise SourceError(
            "Nothing can be pushed to the Hub while HF_HUB_OFFLINE is set.",
            where=repository.url,
            hint="unset HF_HUB_OFFLINE, or save into a folder with save_pretrained",
        )
    if repository.token is False or not (isinstance(repository.token, str) or get_token()):
        raise SourceError(
            "Pushing to the Hub needs an access token.",
            where=repository.url,
            expected="a token that may write, from `hf auth login`, HF_TOKEN or token=",
            found="token=False" if repository.token is False else "none",
            hint="run `hf auth login`, or pass token='hf_...'",
        )


@contextmanager
def _writing(repository: Repository) -> Iterator[None]:
    """Turn the client's errors into ours; what loading says of a refused request is no help in writing."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    with plain_errors(repository):
        try:
            yield
        except HFValidationError as error:
            raise ArgumentError(
                f"{repository.name!r} is no name of a repository",
                expected="'org/name' or 'name' in letters, digits, '-', '_' and '.'",
                hint=str(error).splitlines()[0],
            ) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status not in (401, 403):
                raise
            raise SourceError(
                f"'{repository.name}' may not be written to with this token.",
                where=repository.url,
                expected="a token with write access, of an account that may write there",
                found=f"HTTP {status}: {error.server_message or 'no reason given'}",
                hint=f"make such a token at {_settings()}, then run `hf auth login` or pass token='hf_...'",
            ) from error


def _settings() -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/settings/tokens"
