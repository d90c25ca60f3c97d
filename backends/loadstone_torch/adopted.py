"""What a class on transformers' `PreTrainedModel` is given so that core can load it. Imports transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import transformers
from torch import nn

from loadstone.backend.model import described
from loadstone.generate.settings import GenerationConfig
from loadstone.model.loading import Loading
from loadstone.remote.modules import beside, is_own
from loadstone.save.code import NO_CODE, SharedCode, code_of_model
from loadstone_torch.layers import is_building

if TYPE_CHECKING:
    from loadstone.architectures import Architecture, Head


class AdoptedModel(transformers.PreTrainedModel):
    """Stands between a class that came with a checkpoint and transformers' base class: loading goes through core.

    All else (generating, resizing, and saving but for the code) is transformers' own.

    Attributes:
        adopted: True.
    """

    backend_name: ClassVar[str] = "torch"
    adopted: ClassVar[bool] = True
    spec: ClassVar[None] = None
    load_report: Any = None

    from_pretrained = vars(Loading)["from_pretrained"]

    @classmethod
    def architecture_and_head(cls) -> tuple[Architecture, Head]:
        """Return what was made of the class."""
        return described(cls)

    def init_weights(self) -> None:
        """Draw nothing while a model is built without memory; ties are made all the same."""
        if is_building():
            self.tie_weights(recompute_mapping=False)
        else:
            super().init_weights()

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Return parameter -> the one that it is; a list, as transformers 4 had it, ties each to the input embedding."""
        said = self._tied_weights_keys
        if said is None or isinstance(said, Mapping) or all_submodels:
            found: dict[str, str] = super().get_expanded_tied_weights_keys(all_submodels)
            return found
        if not getattr(self.config, "tie_word_embeddings", False):
            return {}
        table = self.get_input_embeddings().weight
        names = [name for name, value in self.named_parameters(remove_duplicate=False) if value is table]
        return {name: names[0] for name in said if names and name not in names}

    def module_at(self, path: str) -> nn.Module:
        """Return the module that checkpoints call `path`; "" is the model itself."""
        return self.get_submodule(path)

    def set_module_at(self, path: str, module: nn.Module) -> None:
        """Replace the module that checkpoints call `path`."""
        self.set_submodule(path, module)

    def save_pretrained(self, save_directory: Any, *arguments: Any, **keywords: Any) -> None:
        """Save as transformers does, with the code that the class came with, in its own folders, beside the weights."""
        main = arguments[0] if arguments else keywords.get("is_main_process", True)
        code = self._code() if main else NO_CODE
        for name, content in code.files.items():
            path = Path(save_directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        before = getattr(self.config, "auto_map", None)
        if code.auto_map is not None:
            self.config.auto_map = dict(code.auto_map)
        try:
            super().save_pretrained(save_directory, *arguments, **keywords)
        finally:
            if code.auto_map is not None:
                self.config.auto_map = before

    def _code(self) -> SharedCode:
        """Return the code that the class came with; transformers itself writes that of a registered class."""
        return code_of_model(self) if self._auto_class is None else NO_CODE

    def _get_files_timestamps(self, working_dir: Any) -> dict[str, float]:
        """Return what lay in a folder before a save that is pushed: what is as old as that is not uploaded, but the code is."""
        tops = {name.partition("/")[0] for name in self._code().files}
        found: dict[str, float] = super()._get_files_timestamps(working_dir)
        return {name: when for name, when in found.items() if name not in tops}

    def check_saves(self, values: Mapping[str, Any] | None = None) -> None:
        """Accept any state: transformers saves the model."""

    def check_generates(self) -> None:
        """Accept any class: transformers generates."""

    @property
    def generation_config(self) -> Any:
        """The settings for transformers' `generate`."""
        return vars(self).get("generation_config")

    @generation_config.setter
    def generation_config(self, settings: Any) -> None:
        if isinstance(settings, GenerationConfig):
            settings = transformers.GenerationConfig.from_dict(settings.to_dict())
        self.__dict__["generation_config"] = settings


def put_between(model_class: type) -> None:
    """Let a class that came with a checkpoint, and those that came with it, stand on `AdoptedModel`."""
    if issubclass(model_class, AdoptedModel):
        return
    theirs = transformers.PreTrainedModel
    found = [one for module in beside(model_class.__module__).values() for one in vars(module).values()]
    for one in found:
        if isinstance(one, type) and is_own(one) and theirs in one.__bases__:
            one.__bases__ = tuple(AdoptedModel if base is theirs else base for base in one.__bases__)
    if not issubclass(model_class, AdoptedModel):  # it derives from a model of transformers' own
        model_class.__bases__ = (*model_class.__bases__, AdoptedModel)
