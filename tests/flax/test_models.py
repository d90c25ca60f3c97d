"""Every architecture and task that Flax has, against transformers, where no other framework can be imported."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loadstone_flax.modeling import full_precision
from tests.oracle import load
from tests.oracle.cases import CASES
from tests.oracle.compare import assert_run
from tests.oracle.parity import ParitySuite, case_runs
from tests.oracle.real import RealSuite


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "keras", "transformers"])
def test_no_other_framework_can_be_imported(framework: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(framework)


class TestFlax(ParitySuite, RealSuite):
    backend = "flax"
    sparing = True

    @pytest.fixture(autouse=True)
    def compile_little(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Compile a program for one forward of each case; the others compute an operation at a time.

        Each run of each case would be a program of its own, used once, and a hundred times slower to make than to run.
        On tiny models the compiler spares itself the work too; on the real checkpoints it does all of it.
        """
        parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
        # Two ways to compute are compared, and not what a compiler makes of them.
        once = "eager" not in request.node.name and not CASES[parameters.get("case", "llama-base")].repeats
        self.compiles = parameters.get("run", "plain") == "plain" and once
        jax.config.update("jax_disable_most_optimizations", "case" in parameters)
        yield
        jax.config.update("jax_disable_most_optimizations", False)

    def call(self, model: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.compiles:
            return super().call(model, arguments)
        with full_precision():
            return model.forward(**arguments)  # type: ignore[no-any-return]

    def native(self, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array)

    def array(self, value: jax.Array) -> np.ndarray:
        return np.asarray(value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value)

    def gradients(self, model: Any, arguments: Mapping[str, Any], names: list[str]) -> dict[str, np.ndarray]:
        gradient = jax.grad(lambda params: self.call(model.with_params(params), arguments).loss)
        # Operation by operation, those of convolutions take longer to compile than the whole.
        gradients = (jax.jit(gradient) if "pixel_values" in arguments else gradient)(model.params)
        return {name: self.array(gradients[name]) for name in names}

    @case_runs(("plain", "left"))
    def test_eager_and_sdpa_agree(self, case: str, run: str) -> None:
        recorded, model = load.run(case, run), self.model(case)
        model.set_attn_implementation("eager")
        try:
            fields = {n: v for n, v in recorded.outputs.items() if n not in ("hidden_states", "attentions")}
            output = self.arrays(self.call(model, self.arguments(recorded.inputs)))
            assert output.keys() >= fields.keys()
            assert_run({**recorded.outputs, **output}, recorded, what=f"flax/{case}/eager")
        finally:
            model.set_attn_implementation("sdpa")
