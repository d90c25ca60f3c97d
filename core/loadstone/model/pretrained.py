"""What every model class has, in every framework: loading, saving, and facts about itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from loadstone.backend.model import described, is_bound
from loadstone.config import Config
from loadstone.dtypes import nbytes
from loadstone.errors import ArchitectureError, ArgumentError
from loadstone.model.loading import Loading
from loadstone.model.outputs import ModelOutput

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub import CommitInfo

    from loadstone.architectures import Architecture, ClassifierSpec, Head
    from loadstone.generate.settings import GenerationConfig
    from loadstone.load.report import LoadReport


class Described:
    """A class attribute that follows from what describes a model class; classes that nothing describes lack it."""

    def __init__(self, of: Callable[[Architecture, Head], object]) -> None:
        self.of = of

    def __get__(self, model: object, cls: type[Pretrained]) -> Any:
        """Return the value of the class, or of the class of an object."""
        try:
            return self.of(*cls.architecture_and_head())
        except ArchitectureError as error:
            raise AttributeError(str(error)) from error


class Pretrained(Loading):
    """Mixed into each backend's model base class.

    Attributes:
        backend_name: The backend that the class belongs to.
        framework: What transformers calls the framework: "pt", "tf" or "flax".
        main_input_name: The first input of the model: "input_ids" or "pixel_values".
        config_class: The class of its configurations.
        attentions: What `attn_implementation` may be; the first is the default.
        reads_pooled: Whether a class with a head reads the pooled output of its base model.
        config: The model's configuration.
        spec: The same, with every quirk resolved; the modules read only this.
        generation_config: Its settings for `generate`.
        attn_implementation: "sdpa" or "eager"; `output_attentions` always computes eagerly.
        base_model_prefix: Where the base model sits in this one; "" for the base model itself.
        load_report: What became of every parameter and stored tensor; None for a model that was not loaded.
        device: Where it is, as its framework says it.
    """

    backend_name: ClassVar[str]
    framework: ClassVar[str]
    main_input_name = Described(
        lambda architecture, _: "input_ids" if architecture.embedding else "pixel_values"
    )
    config_class = Described(lambda architecture, _: architecture.config)
    attentions: ClassVar[tuple[str, ...]] = ("sdpa", "eager")
    reads_pooled: ClassVar[bool] = False
    config: Config
    spec: Any
    generation_config: GenerationConfig
    attn_implementation: str
    base_model_prefix: str
    load_report: LoadReport | None
    device: Any
    _dispatched: Mapping[str, Any] | None = None
    _auto_class: ClassVar[str | None] = None

    def describe(self, config: Config) -> None:
        """Take on a configuration and all that follows from it; a backend's `__init__` calls it first."""
        from loadstone.architectures import architecture_of, refuse_unfollowed, resolve_spec
        from loadstone.generate.settings import GenerationConfig

        refuse_unfollowed(config)
        self.config = config
        self.spec = resolve_spec(architecture_of(config), config)
        self.generation_config = GenerationConfig.from_model_config(config)
        wished = config._attn_implementation
        self.attn_implementation = wished if wished in self.attentions else self.attentions[0]
        self.base_model_prefix = self.architecture_and_head()[1].prefix
        self.load_report = None
        config.built_with(self.attn_implementation)

    def module_at(self, path: str) -> Any:
        """Return the module that checkpoints call `path`; "" is the model itself. A backend defines it."""
        raise NotImplementedError

    def set_module_at(self, path: str, module: Any) -> None:
        """Replace the module that checkpoints call `path`. A backend defines it."""
        raise NotImplementedError

    @classmethod
    def architecture_and_head(cls) -> tuple[Architecture, Head]:
        """Return what describes this class: what its `config_class` says, else its nearest ancestor.

        Raises:
            ArchitectureError: If nothing does.
        """
        if not is_bound(cls):
            from loadstone.backend.own import describe_own

            describe_own(cls)
        return described(cls)

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type = "AutoModel") -> None:
        """Let saves write the code of this class beside the weights, and name it in config.json's `auto_map`.

        The code is the file of the class, that of its configuration's class, and what they import from beside them.

        Args:
            auto_class: The Auto class that is to load it, or its name: "AutoModelForCausalLM".

        Raises:
            ArgumentError: If that is no Auto class for models.

        Example:
            ```python
            MyForCausalLM.register_for_auto_class("AutoModelForCausalLM")
            ```
        """
        from loadstone.plugins import class_prefix_of

        named = auto_class if isinstance(auto_class, str) else auto_class.__name__
        name = named.removeprefix(class_prefix_of(cls.backend_name))
        if name != "AutoModel" and not (name.startswith("AutoModelFor") and name.isidentifier()):
            raise ArgumentError(
                f"{named} is no Auto class for models of the backend {cls.backend_name!r}",
                expected='"AutoModel", "AutoModelForCausalLM", ...',
                found=repr(named),
                hint="name the one that is to load the class",
            )
        cls._auto_class = name

    @classmethod
    def build_base(cls, config: Config, **options: Any) -> Any:
        """Return the base model of a configuration, of the class that its architecture has in this framework.

        It has no pooler where this class would not read it.
        """
        from loadstone.architectures import architecture_of
        from loadstone.backend import get_backend

        architecture = architecture_of(config)
        head = architecture.heads[0]
        if not cls.reads_pooled and "add_pooling_layer" in head.options:
            options = {"add_pooling_layer": False, **options}
        return get_backend(cls.backend_name).model_class(architecture, head)(config, **options)

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Any] | None = None,
        *,
        push_to_hub: bool = False,
        max_shard_size: int | str = "5GB",
        variant: str | None = None,
        token: str | bool | None = None,
        safe_serialization: bool = True,
        format: str | None = None,
        save_function: Callable[..., Any] | None = None,
        **pushing: Any,
    ) -> None:
        """Save the model; `loadstone.save.story.save_pretrained` tells what is written and what survives a crash.

        Args:
            save_directory: Where; made where absent.
            is_main_process: False writes nothing: of several processes that train one model, one saves it.
            state_dict: Values to save in place of the model's own, as its framework's arrays under its parameters' names.
            push_to_hub: Push what was saved to the Hub too.
            max_shard_size: Bytes of tensors in a file, as a number or a text such as "5GB".
            variant: Part of the weights' names, e.g. "fp16".
            token: Of the push, as in `push_to_hub`.
            safe_serialization: False writes a pickle, `pytorch_model.bin`.
            format: `safetensors`, "bin", "h5" (`tf_model.h5`), "msgpack" (`flax_model.msgpack`), or what a plugin writes.
            save_function: Taken from scripts that pass `accelerator.save`; it is not called.
            **pushing: `repo_id`, by default the folder's name in your own namespace, and what else `push_to_hub` takes.

        Raises:
            ArgumentError: If an argument cannot be used.
            SourceError: If the folder cannot be written, the disk is full, or the Hub refuses the push.
        """
        from loadstone.checkpoint.formats.names import DEFAULT
        from loadstone.save.push import check_pushing
        from loadstone.save.push import push_to_hub as push
        from loadstone.save.story import save_pretrained

        if not safe_serialization and format not in (None, "bin"):
            raise ArgumentError(
                "safe_serialization and format disagree",
                found=f"safe_serialization=False and format={format!r}",
                hint="pass format= alone",
            )
        written = format or (DEFAULT if safe_serialization else "bin")
        if push_to_hub and written != DEFAULT:
            raise ArgumentError(
                f"weights are pushed to the Hub as {DEFAULT}, not as {written}",
                hint="save into a folder, and upload that with huggingface_hub's upload_folder",
            )
        repo_id = check_pushing(save_directory, pushing, token=token, wanted=push_to_hub)
        if not is_main_process:
            return
        how: dict[str, Any] = {"max_shard_size": max_shard_size, "variant": variant, "state_dict": state_dict}
        save_pretrained(self, save_directory, format=written, **how)
        if push_to_hub:
            push(self, repo_id, token=token, **how, **pushing)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | bool | None = None,
        private: bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        max_shard_size: int | str = "5GB",
        variant: str | None = None,
    ) -> CommitInfo:
        """Save the model into a repository on the Hub; `loadstone.save.push.push_to_hub` tells the arguments and errors.

        Example:
            ```python
            model.push_to_hub("org/name", private=True)
            ```
        """
        from loadstone.save.push import push_to_hub

        return push_to_hub(
            self,
            repo_id,
            token=token,
            private=private,
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
            max_shard_size=max_shard_size,
            variant=variant,
        )

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
        *,
        seed: int | None = None,
    ) -> Any:
        """Give the embedding and the output layer another number of rows, in place.

        `loadstone.model.embeddings.resize_token_embeddings` tells what new rows are.

        Args:
            new_num_tokens: Rows to have; None: as many as now.
            pad_to_multiple_of: Round that number up.
            mean_resizing: Draw new rows from the distribution of the old ones; else as in a fresh model.
            seed: Decides what is drawn, the same in every framework; None: the framework's own generator does.

        Returns:
            The layer that looks tokens up.

        Raises:
            ArgumentError: If the model reads no tokens, or the number is not positive.
        """
        from loadstone.model.embeddings import resize_token_embeddings

        table = self.get_input_embeddings()
        rows = int(table.weight.shape[0]) if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of:
            rows = -(-rows // pad_to_multiple_of) * pad_to_multiple_of
        resize_token_embeddings(self, rows, mean_resizing=mean_resizing, seed=seed)
        return self.get_input_embeddings()

    def wait(self) -> None:
        """Wait until all parameters have come of a model that was loaded with `wait=False`.

        Raises:
            ChangedFileError: If a file changed before it was read.
            SourceError: If one could not be read.
            OutOfMemoryError: If there was no memory.
        """
        from loadstone.load.report import await_all

        await_all(self)

    @property
    def num_labels(self) -> int:
        """Number of labels of a classification head, as the configuration has it."""
        return self.config.num_labels

    @property
    def hf_device_map(self) -> dict[str, str | None]:
        """Module -> device, or None for one that is absent, as `device_map=` asked for it; a model that was loaded without one has no such attribute.

        accelerate's `dispatch_model` sets it.
        """
        report = self.load_report
        if self._dispatched is not None:
            return dict(self._dispatched)
        if report is None or report.device_map is None:
            raise AttributeError(f"{type(self).__name__} was loaded without device_map=")
        return dict(report.device_map)

    @hf_device_map.setter
    def hf_device_map(self, device_map: Mapping[str, Any]) -> None:
        self._dispatched = device_map

    def tie_weights(self, **_: Any) -> None:
        """Make the parameters one again that are one in checkpoints of this class, as the configuration has it."""
        from loadstone.backend import get_backend

        for name, to in self.architecture_and_head()[1].ties_of(self.config).items():
            get_backend(self.backend_name).tie(self, name, to)

    def post_init(self) -> None:
        """Do nothing: a class written for transformers calls this where its weights are to be drawn, and ours are drawn."""

    def _init_weights(self, module: Any) -> None:
        """Draw nothing: a class of one's own says here what is drawn otherwise than by the rule, and may call this first."""

    def get_memory_footprint(self) -> int:
        """Return the bytes of all that a checkpoint holds of the model; tied parameters count once."""
        from loadstone.backend import get_backend
        from loadstone.save.story import stored_parameters

        stored = stored_parameters(self, get_backend(self.backend_name))
        return sum(nbytes(parameter.dtype, parameter.shape) for parameter in stored)

    def get_decoder(self) -> Any:
        """Return the model without its task head, which transformers calls so in decoders and encoders alike."""
        return self.base_model

    @property
    def base_model(self) -> Any:
        """The model without its task head; the model itself where it has none."""
        return self.module_at(self.base_model_prefix)

    def get_input_embeddings(self) -> Any:
        """Return the layer that looks tokens up.

        Raises:
            ArgumentError: If the model reads no tokens.
        """
        return self.module_at(self._embedding_path())

    def set_input_embeddings(self, embeddings: Any) -> None:
        """Replace the layer that looks tokens up.

        Raises:
            ArgumentError: If the model reads no tokens, or checkpoints have no names for the new layer's parameters.
        """
        self._replace(self._embedding_path(), embeddings)

    def _replace(self, path: str, module: Any) -> None:
        """Put another module in the place of one whose parameters have the same names."""
        from loadstone.backend import get_backend

        def names() -> list[str]:
            listed = get_backend(self.backend_name).parameters(self)
            return sorted(name for name in listed if name.startswith(f"{path}."))

        expected, old = names(), self.module_at(path)
        self.set_module_at(path, module)
        if (found := names()) != expected:
            self.set_module_at(path, old)
            raise ArgumentError(
                f"{type(module).__name__} cannot take the place of {path}: its parameters have other names",
                expected=", ".join(expected),
                found=", ".join(found) or "none",
                hint=f"take a {type(old).__name__}",
            )

    def _embedding_path(self) -> str:
        architecture, head = self.architecture_and_head()
        if not architecture.embedding:
            raise ArgumentError(f"{type(self).__name__} reads no tokens, and has no embedding of them")
        return ".".join(part for part in (head.prefix, architecture.embedding) if part)

    def get_output_embeddings(self) -> Any:
        """Return the layer that scores every token of the vocabulary, or None."""
        output = self.architecture_and_head()[1].output
        return self.module_at(output) if output else None

    def set_output_embeddings(self, embeddings: Any) -> None:
        """Replace the layer that scores every token of the vocabulary.

        Raises:
            ArgumentError: If the model has none, or checkpoints have no names for the new layer's parameters.
        """
        output = self.architecture_and_head()[1].output
        if not output:
            raise ArgumentError(f"{type(self).__name__} scores no vocabulary")
        self._replace(output, embeddings)

    def set_attn_implementation(self, name: str) -> None:
        """Choose how attention is computed: "sdpa" or "eager".

        Raises:
            ArgumentError: If it is neither.
        """
        if name not in self.attentions:
            raise ArgumentError(
                f"unknown attn_implementation {name!r}",
                expected=f"one of: {', '.join(self.attentions)}",
                hint="leave it out for the fastest one",
            )
        self.attn_implementation = self.base_model.attn_implementation = name
        self.config.built_with(name)

    def classifier_spec(self) -> ClassifierSpec:
        """Return what a classifying head needs, by what the configuration says now.

        Users set `config.pad_token_id` and `config.problem_type` on a loaded model.
        """
        text = self.config.get_text_config()
        spec: ClassifierSpec = self.spec.classifier
        return dataclasses.replace(spec, problem_type=text.problem_type, pad_token_id=text.pad_token_id)

    def wants(self, name: str, given: bool | None) -> bool:
        """Return what a call says of an output flag, or else the configuration."""
        return bool(getattr(self.config, name)) if given is None else given

    def result(self, return_dict: bool | None, **fields: Any) -> ModelOutput | tuple[Any, ...]:
        """Return the fields that are not None, as a ModelOutput or, with `return_dict=False`, a tuple."""
        found = ModelOutput(**fields)
        wanted = self.config.return_dict if return_dict is None else return_dict
        return found if wanted else found.to_tuple()

    def check_saves(self, values: Mapping[str, Any] | None = None) -> None:
        """Raise an ArgumentError if the model is in a state that no checkpoint of its class can hold.

        Args:
            values: What is to be saved in place of the model's own, under its parameters' names.
        """

    @classmethod
    def can_generate(cls) -> bool:
        """Return whether the class has a head that `generate` can continue prompts with."""
        return "CausalLM" in (
            cls.architecture_and_head()[1].task,
            (cls._auto_class or "").removeprefix("AutoModelFor"),
        )

    def check_generates(self) -> None:
        """Raise an ArgumentError if the model has no head that `generate` can continue prompts with."""
        if not self.can_generate():
            from loadstone.plugins import class_prefix_of

            auto_class = f"{class_prefix_of(self.backend_name)}AutoModelForCausalLM"
            raise ArgumentError(
                f"{type(self).__name__} cannot generate",
                hint=f"load it with {auto_class}; register a class of your own as one of that",
            )
        if self.load_report is not None:
            from loadstone.load.report import refuse_in_part

            refuse_in_part(self, "cannot generate")
        if not getattr(self.spec, "causal", True) and any(getattr(self.spec, "windows", ())):
            raise ArgumentError(
                "a model whose tokens see those after them within a window cannot generate",
                where="config.json: is_causal, sliding_window",
                expected="is_causal=true, or no window",
                hint="what its first tokens are would depend on how many come with them",
            )


def check_mask(shape: Sequence[int | None], tokens: Sequence[int | None]) -> None:
    """Raise an ArgumentError if an attention mask of this shape does not say something of each of the tokens, (B, S).

    None is a size that is not known, or does not matter.
    """
    sizes = zip(shape, tokens, strict=False)
    if len(shape) != len(tokens) or any(None not in pair and pair[0] != pair[1] for pair in sizes):
        named = ", ".join("any" if size is None else str(size) for size in tokens)
        raise ArgumentError(
            "attention_mask does not fit the tokens",
            expected=f"[{named}]: zero at padding, cached tokens included",
            found=list(shape),
        )
