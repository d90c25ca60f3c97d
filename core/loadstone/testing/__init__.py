"""What a backend's author calls to prove a backend, and an architecture's author to add cases of it.

`proof` and `bits` are the two tests of a class; `Suite` has them for pytest. `Oracle` reads what transformers answered on
tiny models, and makes it where it is missing. numpy is imported here, a framework, transformers and pytest are not.
"""

from loadstone.testing.answers import save_answers
from loadstone.testing.capabilities import (
    CAPABILITIES,
    Attentions,
    Caches,
    Computes,
    Differentiates,
    Embeds,
    Generates,
    Halves,
    HiddenStates,
    Losses,
    Masks,
)
from loadstone.testing.case import Case, Unseen, decoder, encoder, image, table
from loadstone.testing.compare import assert_close, assert_run, assert_within_rounding
from loadstone.testing.proofs import bits, proof
from loadstone.testing.reference import Oracle, Run
from loadstone.testing.suite import MutationSuite, Suite, notimpl

__all__ = [
    "CAPABILITIES",
    "Attentions",
    "Caches",
    "Case",
    "Computes",
    "Differentiates",
    "Embeds",
    "Generates",
    "Halves",
    "HiddenStates",
    "Losses",
    "Masks",
    "MutationSuite",
    "Oracle",
    "Run",
    "Suite",
    "Unseen",
    "assert_close",
    "assert_run",
    "assert_within_rounding",
    "bits",
    "decoder",
    "encoder",
    "image",
    "notimpl",
    "proof",
    "save_answers",
    "table",
]
