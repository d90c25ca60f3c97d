"""A repository that the tests of the Hub put on it."""

NAME = "org/name"
CONFIG = b'{"model_type": "llama"}'
WEIGHTS = bytes(range(256)) * 4000
FILES = {
    "config.json": CONFIG,
    "model.safetensors": WEIGHTS,
    "onnx/model.onnx": b"onnx",
    "onnx/a/b.txt": b"b",
}
