"""The versions that the oracle is made with, in one place."""

TRANSFORMERS = "5.23.0"
"""The oracle itself: installed in the test environment, pinned to the same version in pyproject.toml."""

TRANSFORMERS4 = ("transformers==4.56.2", "huggingface_hub==0.36.2", "tokenizers==0.22.2")
"""The second saver: installed beside the environment, without dependencies; it shares the environment's torch."""
