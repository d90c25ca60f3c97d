"""The arguments of `from_pretrained`: known ones checked, everything else a field of the configuration or an error."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from loadstone.errors import ArgumentError, nearest
from loadstone.keywords import ConfigArguments

if TYPE_CHECKING:
    from loadstone.architectures import Head
    from loadstone.config import Config

# Known to transformers' users; what they ask for is always so, or has no meaning here.
ACCEPTED = frozenset({"low_cpu_mem_usage", "weights_only", "resume_download"})
# What is on disk stays in the checkpoint's own files, and nothing is held twice: no folder and no state dict is needed.
ACCEPTED |= {"offload_folder", "offload_state_dict"}
# Buffers that a checkpoint holds lie where the parameters of their module do, whole blocks together, as accelerate has it with
# offload_buffers=True; those that it does not hold are computed on the device that needs them. No number depends on it.
ACCEPTED |= {"offload_buffers"}
# Known to transformers' users and not built yet.
NOT_YET = frozenset({"tp_plan", "quantization_config", "proxies"})
# Known to transformers' users under these names; what to do in their place.
ELSEWHERE = {
    "load_in_4bit": "quantising is not there yet; pass dtype='bfloat16' for half the memory of float32",
    "load_in_8bit": "quantising is not there yet; pass dtype='bfloat16' for half the memory of float32",
    "use_auth_token": "pass token=",
    "use_flash_attention_2": "leave attn_implementation out for the fastest that is there",
    "adapter_kwargs": "add the adapter with PEFT's PeftModel.from_pretrained after loading",
}
# What transformers 4 asks for the weights of another framework's classes with, and the format that those write.
ORIGINS = {"from_tf": "h5", "from_flax": "msgpack"}
# And what names a file, whatever it is called, of a format whose files say themselves what the model is.
ORIGINS |= {"gguf_file": "gguf"}
READ_MODES = ("auto", "map", "copy")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadArguments(ConfigArguments):
    """What a caller of `from_pretrained` may say beside the name.

    Attributes:
        config: A configuration, or where to load one from, in place of the checkpoint's.
        state_dict: Arrays under the names that checkpoints have, of any framework or numpy's, in the place of files: with None for
            the name, and `config`. What needs no cast is shared with the model where its framework can, unless `read` is "copy".
        variant: "fp16" loads the weights that have it in their names.
        use_safetensors: True takes no other format, False takes pickles (`pytorch_model.bin`) alone.
        from_tf: Take what transformers' TensorFlow classes wrote, `tf_model.h5`, whatever else is there.
        from_flax: Take what its Flax classes wrote, `flax_model.msgpack`.
        gguf_file: The GGUF file of the folder or repository that is loaded: its numbers, and what it says of the model, whatever
            lies beside it. The path of a local file means the same: `from_pretrained("folder/model.gguf")`.
        from_pt: Take what its PyTorch classes wrote alone: safetensors, else pickles.
        weights_format: The format to read by its name, "h5" or "gguf" say, where several lie there; "gguf@distribution" where two plugins
            bring it. None: the first that is there, loadstone's own before others.
        device_map: None (the default device), "auto" (the first device that holds the model, else all of them evenly),
            "balanced", "balanced_low_0" (the first device as empty as may be), "sequential", a device, its number, "disk", or
            module -> one of these, or None; more than one, and "disk", are for backends whose models run so.
        max_memory: Device -> what it may hold at most, in bytes or as "10GiB"; the number n is the n-th accelerator, and what
            none holds stays on disk. With it alone, `device_map` is "auto".
        layers: Numbers of the blocks to load, `range(0, 4)` say; the others are absent, as are modules with None in `device_map`.
        key_mapping: Regular expressions, pattern -> replacement, applied to stored names.
        strict: True: any surplus tensor is an error; False: none is; None: one that only a wrong configuration explains is.
        read: "auto", "map" or "copy"; see docs/architecture.md.
        wait: False returns once the plan stands: what is to be read comes in the order in which blocks run, each block waits for its
            own, and `model.wait()` for all.
        ignore_mismatched_sizes: Draw parameters afresh whose stored shape differs.
        output_loading_info: Return the model and a dict of missing, unexpected and mismatched keys.
        ignore_adapter: Load the whole weights alone where a PEFT adapter lies beside them; that is an error else.
        seed: A number that decides what a new task head is drawn as, the same in every framework; None: the framework's own
            generator decides, as in `from_config`.
        rngs: In Flax, an `nnx.Rngs` or a key in the place of `seed`.
    """

    config: Config | str | os.PathLike[str] | None = None
    state_dict: Mapping[str, Any] | None = None
    variant: str | None = None
    use_safetensors: bool | None = None
    from_tf: bool = False
    from_flax: bool = False
    gguf_file: str | None = None
    from_pt: bool = False
    weights_format: str | None = None
    device_map: object = None
    max_memory: Mapping[int | str, int | str] | None = None
    layers: Collection[int] | None = None
    key_mapping: Mapping[str, str] | None = None
    strict: bool | None = None
    read: str = "auto"
    wait: bool = True
    ignore_mismatched_sizes: bool = False
    output_loading_info: bool = False
    ignore_adapter: bool = False
    seed: int | None = None
    rngs: object = None

    def weights(self) -> dict[str, Any]:
        """Return the arguments that say which weights of a checkpoint are read."""
        own = next((format for name, format in ORIGINS.items() if getattr(self, name)), None)
        return {
            "variant": self.variant,
            "use_safetensors": None if own else self.use_safetensors,
            "from_pt": bool(self.from_pt),
            "weights_format": self.weights_format or own,
            "weights_file": self.gguf_file or None,
        }


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MakeArguments:
    """What a caller of `from_config` may say beside the configuration.

    Attributes:
        dtype: A dtype; None: the configuration's, else float32.
        attn_implementation: "sdpa" or "eager".
        seed: The same seed gives the same numbers in every backend; None: the framework's own generator decides
            (`torch.manual_seed`, `tf.random.set_seed`), and where it has none, the numbers differ from call to call.
        rngs: In Flax, an `nnx.Rngs` or a key of JAX's in place of a seed.
        trust_remote_code: Not needed: a class that came with a checkpoint is taken from the code that made the configuration.
    """

    dtype: object = None
    attn_implementation: str | None = None
    seed: int | None = None
    rngs: object = None
    trust_remote_code: bool | list[str] | None = None


FIELDS = tuple(field.name for field in dataclasses.fields(LoadArguments))


def parse_arguments(arguments: Mapping[str, Any]) -> tuple[LoadArguments, dict[str, Any]]:
    """Split the caller's keyword arguments into those of the loader and the rest.

    Raises:
        ArgumentError: If `dtype` and `torch_dtype` disagree, or two arguments about the format of the weights, an argument is not built yet or is another's, `model_type` is
            no text, `read` is unknown, or `seed` is no whole number.
    """
    known = {name: value for name, value in arguments.items() if name in FIELDS}
    rest = {name: value for name, value in arguments.items() if name not in FIELDS and name not in ACCEPTED}
    for name in sorted(NOT_YET & rest.keys()):
        if rest.pop(name) not in (None, False):
            raise ArgumentError(f"{name}= is not there yet", hint="leave it out")
    for name in sorted(ELSEWHERE.keys() & rest.keys()):
        if _asks(rest.pop(name)):
            raise ArgumentError(f"from_pretrained() has no {name}=", hint=ELSEWHERE[name])
    old = rest.pop("torch_dtype", None)
    if old is not None and known.get("dtype") not in (None, old):
        raise ArgumentError(
            "dtype and torch_dtype disagree",
            found=f"{known['dtype']!r} and {old!r}",
            hint="pass dtype= alone",
        )
    if old is not None:
        known["dtype"] = old
    found = LoadArguments(**known)
    _check_origin(found)
    if found.state_dict is not None:
        _check_no_files(found)
    if not isinstance(found.model_type, str | None):
        raise ArgumentError(
            "model_type= is no text",
            expected='the name of a model type, e.g. "bert"',
            found=repr(found.model_type),
            hint="leave it out where config.json says it",
        )
    if found.read not in READ_MODES:
        raise ArgumentError(
            f"unknown read mode {found.read!r}",
            expected=f"one of: {', '.join(READ_MODES)}",
            hint=nearest(str(found.read), READ_MODES) or "leave it out",
        )
    if found.seed is not None:
        from loadstone.backend.seeds import whole_number

        whole_number(found.seed)
    return found, rest


def _asks(value: object) -> bool:
    """Return whether an argument asks for anything; transformers' Auto classes say of each load where an adapter would be."""
    if isinstance(value, Mapping):
        return not value.keys() <= {"revision", "token"}
    return value not in (None, False)


def _check_origin(found: LoadArguments) -> None:
    """Refuse arguments that ask for the weights of two frameworks, or for those of one in another's format, or name no file."""
    if not isinstance(found.gguf_file, str | None):
        raise ArgumentError(
            "gguf_file= is no text",
            expected='the name of a file, "model.gguf" say',
            found=f"{found.gguf_file!r:.80}",
            hint="pass the path of a local file in the place of the checkpoint's name",
        )
    given = [name for name in (*ORIGINS, "from_pt") if getattr(found, name)]
    told = [f"{name}={getattr(found, name)!r}" for name in given]
    format = ORIGINS.get(given[0]) if given else None
    if format and (found.weights_format or format).partition("@")[0] != format:
        told.append(f"weights_format={found.weights_format!r}")
    if format and found.use_safetensors:
        told.append("use_safetensors=True")
    if len(told) > 1:
        raise ArgumentError(
            f"{' and '.join(one.partition('=')[0] for one in told)} disagree: weights have one format",
            found=" and ".join(told),
            hint=f"pass {told[0]} alone" if format else f"leave {told[-1]} out",
        )


def _check_no_files(found: LoadArguments) -> None:
    """Refuse arguments that choose between files where arrays are loaded."""
    given = {**found.weights(), "read": found.read if found.read == "map" else None}
    if wrong := [name for name, value in given.items() if value]:
        raise ArgumentError(
            f"{wrong[0]}= chooses between files, and state_dict= has none",
            found=f"{wrong[0]}={given[wrong[0]]!r}",
            hint="leave it out",
        )


def split_rest(
    rest: Mapping[str, Any], *, config: Config, head: Head
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split what the loader does not know into fields of the configuration and options of the model class.

    Raises:
        ArgumentError: If an argument is neither; it names the nearest that exist.
    """
    options = {name: value for name, value in rest.items() if name in head.options}
    fields = {name: value for name, value in rest.items() if name not in options}
    for name in fields:
        if name not in config:
            known = [*FIELDS, *ACCEPTED, *head.options, *type(config).known_names(), "torch_dtype", "backend"]
            raise ArgumentError(
                f"from_pretrained() knows no argument {name!r}",
                expected=f"an argument of from_pretrained, or a field of {type(config).__name__}",
                hint=nearest(name, known) or "see the documentation of loadstone.load.story.from_pretrained",
            )
    return fields, options
