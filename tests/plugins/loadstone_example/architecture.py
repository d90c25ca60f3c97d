"""Echo: a model that scores each token by its likeness to all others. It exists to be loaded."""

from __future__ import annotations

import dataclasses

from loadstone.architectures import Architecture, Head, Tie
from loadstone.config import Config


class EchoConfig(Config):
    """Configuration of Echo."""

    model_type = "echo"

    vocab_size: int = 16
    hidden_size: int = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EchoSpec:
    """What the models of every framework read."""

    vocab_size: int
    hidden_size: int


def echo_spec(config: Config) -> EchoSpec:
    """Resolve an Echo configuration."""
    return EchoSpec(vocab_size=config.vocab_size, hidden_size=config.hidden_size)


ECHO = Architecture(
    model_type="echo",
    family="echo",
    config=EchoConfig,
    spec=echo_spec,
    heads=(
        Head(task="", class_name="EchoModel", prefix=""),
        Head(
            task="CausalLM",
            class_name="EchoForCausalLM",
            prefix="model",
            new=(("lm_head.weight",),),
            ties=(Tie(name="lm_head.weight", to="model.tokens.weight"),),
            output="lm_head",
        ),
    ),
    embedding="tokens",
    modules={"torch": "loadstone_example.echo_torch"},
)
