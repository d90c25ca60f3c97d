"""A made-up architecture, its models' parameters and checkpoints, as the planner sees them: names and sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadstone.architectures import Architecture, Head, Tie
from loadstone.backend import Parameter
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.config import Config
from loadstone.dtypes import nbytes
from loadstone.planning.dtype import dtype_policy
from loadstone.planning.match import match
from loadstone.planning.records import LoadPlan

LAYERS, VOCABULARY, CHANNELS, LABELS = 2, 7, 4, 3


class ToyConfig(Config):
    """Its ties hold unless it says otherwise."""

    model_type = "toy"


POOLER, SCORE, OUTPUTS = (
    ("pooler.weight",),
    ("score.weight", "score.bias"),
    ("outputs.weight", "outputs.bias"),
)
TIE = Tie(name="head.weight", to="model.embed.weight")
BASE = Head(task="", class_name="ToyModel", prefix="", new=(POOLER,), options=("pooling",))
LM = Head(task="CausalLM", class_name="ToyForCausalLM", prefix="model", new=(("head.weight",),), ties=(TIE,))
CLASSIFIER = Head(
    task="SequenceClassification",
    class_name="ToyForSequenceClassification",
    prefix="model",
    new=(("model.pooler.weight",), SCORE),
)
QUESTIONS = Head(
    task="QuestionAnswering", class_name="ToyForQuestionAnswering", prefix="transformer", new=(OUTPUTS,)
)
HEADS = (BASE, LM, CLASSIFIER, QUESTIONS)

TOY = Architecture(
    model_type="toy",
    family="toy",
    config=ToyConfig,
    spec=lambda config: config,
    heads=HEADS,
    embedding="embed",
    optional=("layers.{}.proj.bias",),
    ignored=("layers.{}.inv_freq",),
    renamed=(("norm.gamma", "norm.weight"),),
    keep_float32=("layers.{}.router.weight",),
)

Shapes = dict[str, tuple[int, ...]]


def base_shapes(*, layers: int = LAYERS, bias: bool = False) -> Shapes:
    """Name -> shape of the base model's parameters, the pooler left out."""
    shapes: Shapes = {"embed.weight": (VOCABULARY, CHANNELS)}
    for i in range(layers):
        shapes[f"layers.{i}.proj.weight"] = (CHANNELS, CHANNELS)
        shapes |= {f"layers.{i}.proj.bias": (CHANNELS,)} if bias else {}
        shapes[f"layers.{i}.router.weight"] = (2, CHANNELS)
    return shapes | {"norm.weight": (CHANNELS,), "norm.steps": ()}


def shapes_of(head: Head, *, layers: int = LAYERS, bias: bool = False) -> Shapes:
    """Name -> shape of all parameters of a model class."""
    base = base_shapes(layers=layers, bias=bias)
    if head in (BASE, CLASSIFIER):
        base["pooler.weight"] = (CHANNELS, CHANNELS)
    prefix = f"{head.prefix}." if head.prefix else ""
    shapes = {prefix + name: shape for name, shape in base.items()}
    if head is LM:
        shapes["head.weight"] = (VOCABULARY, CHANNELS)
    if head is CLASSIFIER:
        shapes |= {"score.weight": (LABELS, CHANNELS), "score.bias": (LABELS,)}
    if head is QUESTIONS:
        shapes |= {"outputs.weight": (2, CHANNELS), "outputs.bias": (2,)}
    return shapes


def dtype_of(name: str, dtype: str = "float32") -> str:
    """The dtype of a parameter in a model or file of floats of one dtype: the counter is of integers."""
    return "int64" if name.endswith("steps") else dtype


def parameters(shapes: Shapes, dtype: str = "float32") -> dict[str, Parameter]:
    """What a backend says of a model."""
    return {
        n: Parameter(name=n, shape=s, dtype=dtype_of(n, dtype), identity=i)
        for i, (n, s) in enumerate(shapes.items())
    }


def index(
    shapes: Shapes,
    dtype: str = "float32",
    *,
    dtypes: Mapping[str, str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> TensorIndex:
    """A checkpoint of these tensors; `dtypes` are those that differ."""
    tensors, at = {}, 0
    for name, shape in shapes.items():
        held = (dtypes or {}).get(name, dtype_of(name, dtype))
        size = nbytes(held, shape)
        tensors[name] = TensorInfo(
            name=name, dtype=held, shape=shape, file="toy.safetensors", offset=at, nbytes=size
        )
        at += size
    return TensorIndex(tensors=tensors, aliases=aliases or {}, files=("toy.safetensors",))


def plan(
    head: Head,
    stored: TensorIndex | Shapes,
    *,
    config: ToyConfig | None = None,
    dtype: object = None,
    model: Shapes | None = None,
    **arguments: Any,
) -> LoadPlan:
    """Match a checkpoint with a model class of the toy architecture."""
    stored = stored if isinstance(stored, TensorIndex) else index(stored)
    config = config or ToyConfig.from_dict({})
    policy = dtype_policy(dtype, config=config, index=stored, architecture=TOY)
    return match(
        parameters(model or shapes_of(head), policy.build),
        stored,
        architecture=TOY,
        head=head,
        config=config,
        policy=policy,
        where="a folder",
        **arguments,
    )


def states(found: LoadPlan) -> dict[str, str]:
    """Parameter -> its state."""
    return {name: assignment.state for name, assignment in found.assignments.items()}


def stored_states(found: LoadPlan) -> dict[str, str]:
    """Stored tensor -> its state."""
    return {name: stored.state for name, stored in found.stored.items()}
