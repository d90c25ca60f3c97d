"""Saves the oracle's checkpoints again with transformers 4: `python tests/oracle/resave4.py --out FOLDER`.

That version spells config.json as the checkpoints of its time do (`rope_theta`, `rope_scaling`). It first answers the
oracle's plain run from what it loaded, and must agree, so that what it saves is the same model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from loadstone.testing import Case, store
from loadstone.testing.cases import CASES
from tests.oracle import transformers4
from tests.oracle.transformers4 import TRANSFORMERS4

LATER = ("Ministral3", "Olmo2ForSequenceClassification", "Olmo3", "Gemma3TextForSequence")
"""What the names of the classes begin with that came with transformers 5."""

NOT_IN_4 = {
    "bert-masked-lm-untied": "its two biases of the head are always one there, tied or not",
    "gemma3_text-base-both-ways": "its Gemma 3 does not know `use_bidirectional_attention` yet",
    **{case.name: "it came later" for case in CASES.values() if case.class_name.startswith(LATER)},
}
"""Cases that transformers 4 cannot hold, and why."""


def fingerprint(case: Case) -> str:
    """What decides the folder: all that decides the oracle's own, and this saver."""
    return store.fingerprint(case, *TRANSFORMERS4, sources=(*store.RECORDERS, Path(__file__)))


def stale(out: Path, cases: Iterable[Case]) -> list[Case]:
    """Those of the cases that transformers 4 can hold and that are not saved yet, or from something else."""
    possible = [case for case in cases if case.name not in NOT_IN_4]
    return [case for case in possible if not store.is_fresh(out / case.name, fingerprint(case))]


def config_of_4(case: Case) -> dict[str, Any]:
    """The row's configuration in transformers 4's spelling."""
    fields = dict(case.config)
    rope = fields.pop("rope_parameters", None)
    if rope and "full_attention" in rope:  # a rope for each kind of layers
        fields["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if rope:
        rope = dict(rope)
        if "partial_rotary_factor" in rope:
            fields["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        fields["rope_theta"] = rope.pop("rope_theta")
        if rope["rope_type"] == "longrope":  # spelled as Phi 3 does: transformers 4 looks beside rope_scaling
            fields["original_max_position_embeddings"] = rope.pop("original_max_position_embeddings")
        fields["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    return fields


def resave(case: Case, oracle: Path, out: Path) -> None:
    """Load the oracle's checkpoint, check the answers, save. Runs where transformers is version 4."""
    import numpy as np
    import torch
    import transformers

    from loadstone.testing.compare import assert_close
    from loadstone.testing.oracle.forward import call, flatten

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    config = transformers.CONFIG_MAPPING[case.model_type](**config_of_4(case), torch_dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        (Path(folder) / "model.safetensors").symlink_to(oracle / case.name / "model.safetensors")
        model, info = getattr(transformers, case.class_name).from_pretrained(
            folder, attn_implementation="eager", output_loading_info=True, **case.model_arguments
        )
    if any(info.values()):
        raise RuntimeError(f"transformers 4 does not load {case.name}: {info}")
    with np.load(oracle / case.name / "reference.npz") as reference, torch.no_grad():
        prefix = "plain/input/"
        inputs = {key.removeprefix(prefix): reference[key] for key in reference if key.startswith(prefix)}
        for key, actual in flatten(call(model.eval(), case, "plain", inputs)):
            if "hidden_states/" in key:  # ViT's last one is taken after the norm in 4 and before it in 5
                continue
            assert_close(actual, reference[f"plain/{key}"], what=f"{case.name} in transformers 4: {key}")
    model.save_pretrained(out)
    (out / store.MANIFEST).write_text(json.dumps({"case": case.name, "fingerprint": fingerprint(case)}))


def main() -> None:
    """Bring the folders of the chosen families up to date, in a process that has transformers 4."""
    families = sorted({case.family for case in CASES.values()})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder is made in it for each case")
    parser.add_argument("--oracle", type=Path, required=True, help="the folder that make.py filled")
    parser.add_argument("--only", choices=families, action="append", help="save this family; may be repeated")
    parser.add_argument("--inside", action="store_true", help="this process already has transformers 4")
    arguments = parser.parse_args()

    wanted = [case for case in CASES.values() if case.family in (arguments.only or families)]
    if stale(arguments.out, wanted) and not arguments.inside:
        command = [sys.executable, __file__, *sys.argv[1:], "--inside"]
        sys.exit(subprocess.run(command, env=transformers4.environment(), check=False).returncode)
    with store.locked(arguments.out):
        for case in stale(arguments.out, wanted):
            with store.replaced(arguments.out / case.name) as folder:
                resave(case, arguments.oracle.resolve(), folder)


if __name__ == "__main__":
    main()
