"""A model as numpy sees it: arrays under the checkpoint's names."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, ClassVar

import numpy as np

from loadstone.architectures import architecture_of
from loadstone.config import Config
from loadstone.generation import GenerationConfig
from loadstone.pretrained import Pretrained

build_dtype: ContextVar[str] = ContextVar("build_dtype", default="float32")


class Slot:
    """One parameter: its shape and dtype, and its value once it has one. Two names of a tied one share a slot."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, dtype
        self.value: np.ndarray | None = None


class PlainModel(Pretrained):
    """Base of the models."""

    backend_name: ClassVar[str] = "plain"
    device = "cpu"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.spec: Any = architecture_of(config).spec(config)
        self.generation_config = GenerationConfig.from_model_config(config)
        self.load_report = None
        self.slots: dict[str, Slot] = {}
        self.training = True

    def declare(self, name: str, shape: tuple[int, ...]) -> None:
        """Add a parameter without a value."""
        self.slots[name] = Slot(shape, build_dtype.get())

    def __getitem__(self, name: str) -> np.ndarray:
        value = self.slots[name].value
        assert value is not None
        return value
