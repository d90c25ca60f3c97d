"""Load Hugging Face checkpoints in PyTorch, TensorFlow (Keras 3) and Flax (nnx) with one call."""

__version__ = "0.1.0"
