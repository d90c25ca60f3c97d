"""The `hub` fixture, for any `conftest.py`:

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))
from hub_fixture import hub  # noqa: F401
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub

UNSET = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN_PATH",
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A running LoopbackHub that this process, and every process it starts, takes for the Hub.

    The environment is set for subprocesses (HF_ENDPOINT; HF_HOME, an empty folder of this test; no token).
    The client reads its environment once, when it is first imported, so that in this process its constants
    are set as well. `hub.home` is HF_HOME; downloads go to `hub.home / "hub"`.
    """
    from huggingface_hub import close_session, constants

    home = tmp_path / "huggingface"
    with LoopbackHub() as running:
        running.home = home
        for name in UNSET:
            monkeypatch.delenv(name, raising=False)
        settings = {
            "HF_ENDPOINT": running.endpoint,
            "HF_HOME": str(home),
            # The Xet protocol needs a storage service of its own; without it the client speaks plain LFS.
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        here = {
            "ENDPOINT": running.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": running.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in here.items():
            # Not every version of the client has them all.
            monkeypatch.setattr(constants, name, value, raising=False)
        close_session()
        yield running
        close_session()
