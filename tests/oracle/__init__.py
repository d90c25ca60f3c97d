"""The oracle: what transformers answers on tiny models, kept as files that every backend is compared with."""
