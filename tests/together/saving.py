"""Loads and saves checkpoints in one framework, or opens them in transformers: `python saving.py WHO OUT CASE...`.

Run in a process of its own for each framework. WHO is a backend, which loads each case of the oracle and saves it into
OUT/CASE; or "transformers", which opens each OUT/CASE and prints what it finds wrong.
"""

import sys
from pathlib import Path


def save(backend: str, out: Path, cases: list[str]) -> None:
    """Load each case in a backend, and save it."""
    from loadstone.architectures import find_head
    from loadstone.backend import get_backend
    from loadstone.testing.cases import CASES
    from tests.oracle import load

    for case in cases:
        found = find_head(CASES[case].class_name)
        assert found is not None
        model_class = get_backend(backend).model_class(*found)
        model = model_class.from_pretrained(load.folder(case), **CASES[case].model_arguments)  # type: ignore[attr-defined]
        model.save_pretrained(out / case)


def open_in_transformers(out: Path, cases: list[str]) -> None:
    """Print what transformers finds missing, unexpected or mismatched in each saved case."""
    import transformers

    from loadstone.testing.cases import CASES

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for case in cases:
        model_class = getattr(transformers, CASES[case].class_name)
        _, info = model_class.from_pretrained(
            out / case, output_loading_info=True, **CASES[case].model_arguments
        )
        if any(info.values()):
            print(case, info)


if __name__ == "__main__":
    who, folder, *names = sys.argv[1:]
    if who == "transformers":
        open_in_transformers(Path(folder), names)
    else:
        save(who, Path(folder), names)
