"""Backends and specs that are wrong in one thing each, all of which the proofs must catch.

    $ python -m loadstone.testing.sabotage --cache .cache/oracle --driver tests.torch.proofs:Torch

A sabotaged spec is what an architecture's author gets wrong: a key of config.json that is read as if it held something
else. A sabotaged backend is what a backend's author gets wrong. Each names the case that must catch it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadstone.architectures import architecture_for
from loadstone.backend import get_backend
from loadstone.read.tensor import HostTensor
from loadstone.testing.proofs import bits, proof
from loadstone.testing.reference import OURS, Oracle


@dataclass(frozen=True, slots=True, kw_only=True)
class Misread:
    """A spec that is resolved as if a key of the configuration held another value.

    Attributes:
        case: The case that must catch it.
        key: The key; a dot descends into a dict.
        value: What is read in its place.
    """

    case: str
    key: str
    value: Any

    def __str__(self) -> str:
        return f"{self.case}: {self.key} read as {self.value}"

    @contextlib.contextmanager
    def applied(self, driver: Any, oracle: Oracle) -> Iterator[Any]:
        """Have the architecture resolve every configuration so; the driver is left as it is."""
        architecture = architecture_for(oracle[self.case].model_type)
        kept = architecture.spec
        object.__setattr__(architecture, "spec", lambda config: kept(self._changed(config)))
        try:
            yield driver
        finally:
            object.__setattr__(architecture, "spec", kept)

    def _changed(self, config: Any) -> Any:
        changed = copy.deepcopy(config)
        outer, _, inner = self.key.partition(".")
        value = getattr(changed, outer) | {inner: self.value} if inner else self.value
        setattr(changed, outer, value)
        return changed


def _misread(case: str, **keys: Any) -> Iterator[Misread]:
    """Yield one for each key; two underscores descend."""
    for key, value in keys.items():
        yield Misread(case=case, key=key.replace("__", "."), value=value)


SPECS: tuple[Misread, ...] = (
    *_misread(
        "llama-causal-lm",
        rms_norm_eps=1e-3,
        rope_parameters__rope_theta=600.0,
        hidden_act="gelu",
        num_key_value_heads=4,
        head_dim=8,
        attention_bias=True,
        mlp_bias=True,
        num_hidden_layers=1,
    ),
    *_misread("llama-causal-lm-multi-head", hidden_act="gelu_new"),
    *_misread("llama-causal-lm-bias", attention_bias=False),
    *_misread("llama-causal-lm-rope-linear", rope_parameters__factor=3.1),
    *_misread(
        "llama-causal-lm-rope-llama3",
        rope_parameters__factor=4.1,
        rope_parameters__low_freq_factor=0.9,
        rope_parameters__high_freq_factor=2.1,
        rope_parameters__original_max_position_embeddings=17,
    ),
    *_misread("llama-causal-lm-rope-dynamic", rope_parameters__factor=2.1, max_position_embeddings=17),
    *_misread(
        "llama-causal-lm-rope-yarn",
        rope_parameters__factor=4.1,
        rope_parameters__beta_fast=0.8,
        rope_parameters__beta_slow=0.1,
        rope_parameters__original_max_position_embeddings=40,
    ),
    *_misread(
        "llama-causal-lm-rope-yarn-untruncated",
        rope_parameters__attention_factor=1.31,
        rope_parameters__truncate=True,
    ),
    *_misread(
        "llama-causal-lm-rope-yarn-mscale", rope_parameters__mscale=0.8, rope_parameters__mscale_all_dim=1.3
    ),
    *_misread(
        "llama-causal-lm-rope-longrope",
        rope_parameters__short_factor=[1.1, 1.3, 1.6],
        rope_parameters__long_factor=[1.2, 2.1, 3.8],
        rope_parameters__factor=4.1,
        rope_parameters__original_max_position_embeddings=21,
    ),
    *_misread("mistral-causal-lm", sliding_window=8),
    *_misread("mistral-base", sliding_window=None),
    *_misread("gemma-causal-lm", hidden_act="silu"),
    *_misread(
        "gemma2-causal-lm",
        hidden_activation="gelu",
        query_pre_attn_scalar=10,
        attn_logit_softcapping=1.6,
        final_logit_softcapping=1.1,
        sliding_window=8,
    ),
    *_misread("qwen2-causal-lm-window", layer_types=["full_attention"] * 2),
    *_misread("qwen3-causal-lm-window-tied-bias", layer_types=["sliding_attention"] * 2),
    *_misread("gpt2-causal-lm", layer_norm_epsilon=1e-3, activation_function="gelu"),
    *_misread("gpt2-causal-lm-scaled-untied", scale_attn_by_inverse_layer_idx=False),
    *_misread("gpt2-causal-lm-unscaled", scale_attn_weights=True),
    *_misread("bert-base", layer_norm_eps=1e-3, hidden_act="gelu_new"),
    *_misread("roberta-base", pad_token_id=0),
    *_misread("distilbert-base", activation="relu"),
    *_misread("distilbert-base-sinusoidal", activation="gelu"),
    *_misread("vit-base", layer_norm_eps=1e-3, pooler_act="relu", qkv_bias=False),
    *_misread("resnet-image-classification-basic", hidden_act="relu", layer_type="bottleneck"),
    *_misread("resnet-base-downsample-in-bottleneck", downsample_in_bottleneck=False),
)
"""Keys that a spec function may misread, and near values that the proofs must tell from the right ones."""


def _bound(method: Callable[..., Any], right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: method(right, *arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A backend that is wrong in one thing.

    Attributes:
        what: It, in words.
        case: The case that must catch it.
        driver: Method of a driver -> what stands in its place: it gets the right method, and that one's arguments.
        backend: The same of the backend's contract.
    """

    what: str
    case: str
    driver: Mapping[str, Callable[..., Any]] | None = None
    backend: Mapping[str, Callable[..., Any]] | None = None

    def __str__(self) -> str:
        return f"{self.case}: {self.what}"

    @contextlib.contextmanager
    def applied(self, driver: Any, oracle: Oracle) -> Iterator[Any]:
        """Yield the driver that is wrong, while the backend is."""
        wrong = copy.copy(driver)
        for name, method in (self.driver or {}).items():
            object.__setattr__(wrong, name, _bound(method, getattr(driver, name)))
        backend = get_backend(driver.backend)
        for name, method in (self.backend or {}).items():
            setattr(backend, name, _bound(method, getattr(backend, name)))
        try:
            yield wrong
        finally:
            for name in self.backend or {}:
                delattr(backend, name)


def _without(*names: str) -> Callable[..., Any]:
    """Return a forward pass that does not get some of its arguments."""

    def forward(right: Any, model: Any, given: Mapping[str, Any]) -> Any:
        return right(model, {name: value for name, value in given.items() if name not in names})

    return forward


def _with(name: str, change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a forward pass with another value of one argument, where it is given."""

    def forward(right: Any, model: Any, given: Mapping[str, Any]) -> Any:
        return right(model, {**given, name: change(given[name])} if name in given else given)

    return forward


def _answering(name: str, change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a forward pass with another value of one answer, where there is one."""

    def forward(right: Any, model: Any, given: Mapping[str, Any]) -> Any:
        output = dict(right(model, given))
        return output | ({name: change(output[name])} if name in output else {})

    return forward


def _putting(change: Callable[[str, np.ndarray], np.ndarray]) -> Mapping[str, Callable[..., Any]]:
    """Return a backend that puts other arrays."""

    def put(right: Any, model: Any, name: str, tensor: HostTensor, device: Any) -> None:
        array = np.ascontiguousarray(change(name, tensor.numpy()))
        data = array.reshape(-1).view(np.uint8)
        right(model, name, HostTensor(name=name, dtype=tensor.dtype, shape=tensor.shape, data=data), device)

    return {"put": put}


def _reading(change: Callable[[str, np.ndarray], np.ndarray]) -> Mapping[str, Callable[..., Any]]:
    """Return a backend that gives other arrays back."""

    def read(right: Any, model: Any, name: str) -> HostTensor:
        tensor = right(model, name)
        data = np.ascontiguousarray(change(name, tensor.numpy())).reshape(-1).view(np.uint8)
        return HostTensor(name=name, dtype=tensor.dtype, shape=tensor.shape, data=data)

    return {"read": read}


def _rounded(name: str, array: np.ndarray) -> np.ndarray:
    import ml_dtypes

    return array.astype(ml_dtypes.bfloat16).astype(array.dtype)


def _transposed(name: str, array: np.ndarray) -> np.ndarray:
    return array.T if array.ndim == 2 and array.shape[0] == array.shape[1] else array


def _copied_tie(right: Any, model: Any, name: str, to: str) -> None:
    """Do as if the two were one."""


def _scaled_gradients(right: Any, model: Any, given: Any, names: Any) -> Any:
    output, gradients = right(model, given, names)
    first = next(iter(gradients))
    return output, gradients | {first: gradients[first] * 1.01}


def _forgetful_step(right: Any, model: Any, given: Any, past: Any) -> Any:
    return right(
        model, given | ({"attention_mask": given["attention_mask"] * 0 + 1} if past is None else {}), past
    )


def _unmasked_generation(right: Any, model: Any, given: Mapping[str, Any]) -> Any:
    masked = given.get("attention_mask")
    return right(model, given if masked is None else {**given, "attention_mask": masked * 0 + 1})


def _endless_generation(right: Any, model: Any, given: Mapping[str, Any]) -> Any:
    return right(model, {name: value for name, value in given.items() if name != "eos_token_id"})


def _unused_cache(right: Any, model: Any, given: Any, past: Any) -> Any:
    if past is None:
        return right(model, given, past)
    width = given["input_ids"].shape[1]
    return right(model, given | {"attention_mask": given["attention_mask"][:, -width:]}, None)


BACKENDS: tuple[Fault, ...] = (
    Fault(
        what="the mask is not looked at",
        case="llama-token-classification",
        driver={"forward": _without("attention_mask")},
    ),
    Fault(
        what="positions are not looked at", case="llama-base", driver={"forward": _without("position_ids")}
    ),
    Fault(
        what="positions start one late",
        case="bert-base",
        driver={"forward": _with("position_ids", lambda p: p + 1)},
    ),
    Fault(
        what="types are not looked at", case="bert-masked-lm", driver={"forward": _without("token_type_ids")}
    ),
    Fault(
        what="hidden states begin after the first layer",
        case="gpt2-base",
        driver={"forward": _answering("hidden_states", lambda states: (*states[1:], states[-1]))},
    ),
    Fault(
        what="heads are shown in another order",
        case="llama-causal-lm",
        driver={
            "forward": _answering(
                "attentions",
                lambda layers: tuple(
                    a[:, ::-1] if isinstance(a, np.ndarray) else a[:, [3, 2, 1, 0]] for a in layers
                ),
            )
        },
    ),
    Fault(
        what="padding counts in the loss",
        case="bert-masked-lm",
        driver={
            "differentiate": lambda right, model, given, names: right(
                model, given | {"labels": abs(given["labels"]) % 67}, names
            ),
            "forward": _with("labels", lambda labels: abs(labels) % 67),
        },
    ),
    Fault(
        what="a gradient is a hundredth too large",
        case="bert-token-classification",
        driver={"differentiate": _scaled_gradients},
    ),
    Fault(
        what="the first step through the cache sees padding",
        case="llama-base",
        driver={"step": _forgetful_step},
    ),
    Fault(what="the cache is not gone on from", case="mistral-base", driver={"step": _unused_cache}),
    Fault(what="generation sees padding", case="gemma-causal-lm", driver={"generate": _unmasked_generation}),
    Fault(what="generation does not end", case="llama-causal-lm", driver={"generate": _endless_generation}),
    Fault(
        what="embeddings are scaled where they are given",
        case="qwen3-base",
        driver={"forward": _with("inputs_embeds", lambda x: x * 1.001)},
    ),
    Fault(
        what="all tokens are scored, however few were asked for",
        case="llama-causal-lm",
        driver={"forward": _without("logits_to_keep")},
    ),
    Fault(what="square matrices are put transposed", case="bert-base", backend=_putting(_transposed)),
    Fault(what="what is put is rounded", case="resnet-base", backend=_putting(_rounded)),
    Fault(what="a tie is not made", case="llama-causal-lm-tied", backend={"tie": _copied_tie}),
    Fault(
        what="biases are given back as zeros",
        case="gpt2-causal-lm",
        backend=_reading(lambda name, array: array * 0 if name.endswith("bias") else array),
    ),
    Fault(what="what is given back is rounded", case="vit-base", backend=_reading(_rounded)),
)
"""What a backend may do wrong, and the case that must catch it."""

SABOTAGE: tuple[Misread | Fault, ...] = (*SPECS, *BACKENDS)


def is_caught(sabotage: Misread | Fault, driver: Any, oracle: Oracle) -> bool:
    """Return whether `proof` or `bits` of the case fails; whatever it fails with, nobody gets a wrong model."""
    with sabotage.applied(driver, oracle) as wrong, tempfile.TemporaryDirectory() as folder:
        try:
            proof(wrong, oracle, sabotage.case)
            bits(wrong, oracle, sabotage.case, Path(folder))
        except Exception:  # noqa: BLE001
            return True
    return False


def main() -> None:
    """Try all of them; the status is 1 where one is not caught."""
    parser = argparse.ArgumentParser(prog="python -m loadstone.testing.sabotage", description=__doc__)
    parser.add_argument("--cache", required=True, help="the oracle's folder")
    parser.add_argument(
        "--cases", default=OURS, help=f"module:attribute of a table of cases; default: {OURS}"
    )
    parser.add_argument("--driver", required=True, help="module:class of what the backend can")
    arguments = parser.parse_args()
    module, _, name = arguments.driver.partition(":")
    driver, oracle = (
        getattr(importlib.import_module(module), name)(),
        Oracle(arguments.cache, arguments.cases),
    )
    missed = []
    for sabotage in SABOTAGE:
        caught = is_caught(sabotage, driver, oracle)
        sys.stdout.write(f"{'caught' if caught else 'MISSED'}  {sabotage}\n")
        missed += [] if caught else [sabotage]
    sys.stdout.write(f"{len(SABOTAGE) - len(missed)} of {len(SABOTAGE)} caught\n")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
