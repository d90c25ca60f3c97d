"""Flax (nnx) backend of loadstone."""
