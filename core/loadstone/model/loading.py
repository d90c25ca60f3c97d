"""The two ways to a model of a class: from a checkpoint, and fresh. Their types are in `loading.pyi`, which is generated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from loadstone.keywords import told
from loadstone.load.arguments import LoadArguments, MakeArguments

if TYPE_CHECKING:
    from loadstone.config import Config
    from loadstone.source import Name


class Loading:
    """Gives a model class `from_pretrained` and `from_config`."""

    @classmethod
    @told(LoadArguments)
    def from_pretrained(cls, pretrained_model_name_or_path: Name | None, **arguments: Any) -> Self:
        """Load a checkpoint into this class; `loadstone.load.story.from_pretrained` tells the errors.

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub ("org/name"); None with `config=` and `state_dict=`.
            **arguments: Fields of the configuration (`num_labels=3`), which replace the file's.

        Returns:
            The model, in inference mode; `model.load_report` says what became of every tensor.

        Example:
            ```python
            from loadstone import LlamaForCausalLM

            model = LlamaForCausalLM.from_pretrained("org/name", dtype="auto")
            ```
        """
        from loadstone.load.story import from_pretrained

        model: Self = from_pretrained(pretrained_model_name_or_path, model_class=cls, **arguments)
        return model

    @classmethod
    @told(MakeArguments)
    def from_config(cls, config: Config, **options: Any) -> Self:
        """Return a model of this class with fresh weights; `loadstone.load.create.from_config` tells the errors.

        Args:
            config: It is copied.
            **options: Keyword arguments of the model class (`add_pooling_layer`).
        """
        from loadstone.load.create import from_config

        model: Self = from_config(config, model_class=cls, **options)
        return model
