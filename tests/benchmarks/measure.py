"""One load, or forwards of what was loaded, in a process of its own: `python measure.py LOADER PATH [OPTIONS]` prints
what it cost as a line of JSON.

It runs in our environment and in the peers', so that it imports nothing but the standard library before a loader has
named its framework. A loader imports first and loads later: only what lies between the two is measured. Memory is the
anonymous part of the resident set, sampled every few milliseconds, above what it was after importing.

OPTIONS is a JSON object: "dtype" and "read" go to the load, "touch" asks for every byte to be read afterwards,
"forward" for the time of a compiled forward of one row of so many tokens instead.
"""

import importlib
import json
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable

from memory import Growth  # beside this file, which is run as a script

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_USE_LEGACY_KERAS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

PIECE = 16 << 20
THREADS = 2

Load = Callable[[], object]
Touch = Callable[[object], int]


def loadstone_torch(path, options):
    """Our PyTorch backend."""
    import torch

    from loadstone import AutoModel, AutoModelForCausalLM

    auto = AutoModel if options.pop("task", "causal") == "base" else AutoModelForCausalLM
    return lambda: auto.from_pretrained(path, backend="torch", **options), _touch_torch(torch)


def transformers_torch(path, options):
    """transformers on PyTorch."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    auto = AutoModel if options.pop("task", "causal") == "base" else AutoModelForCausalLM
    return lambda: auto.from_pretrained(path, **options), _touch_torch(torch)


def loadstone_flax(path, options):
    """Our Flax backend."""
    import jax
    from flax import nnx  # noqa: F401

    from loadstone import FlaxAutoModelForCausalLM

    jax.devices()
    return lambda: FlaxAutoModelForCausalLM.from_pretrained(path, **options), _touch_jax(jax)


def transformers_flax(path, options):
    """transformers 4.56 on Flax."""
    import jax
    import jax.numpy as jnp
    from transformers import FlaxAutoModelForCausalLM

    jax.devices()
    dtype = getattr(jnp, options.pop("dtype", "float32"))
    load = FlaxAutoModelForCausalLM.from_pretrained
    touch = _touch_jax(jax)
    return lambda: load(path, dtype=dtype), lambda model: touch(model.params)


def loadstone_tensorflow(path, options):
    """Our TensorFlow backend."""
    os.environ.pop("TF_USE_LEGACY_KERAS")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow  # noqa: F401

    from loadstone import TFAutoModel, TFAutoModelForCausalLM

    auto = TFAutoModel if options.pop("task", "causal") == "base" else TFAutoModelForCausalLM
    return lambda: auto.from_pretrained(path, **options), None


def transformers_tensorflow(path, options):
    """transformers 4.56 on TensorFlow, which has no Llama."""
    from transformers import TFAutoModel

    return lambda: TFAutoModel.from_pretrained(path), None


def kerashub_jax(path, options):
    """KerasHub on JAX."""
    return _kerashub("jax", path, options)


def kerashub_tensorflow(path, options):
    """KerasHub on TensorFlow."""
    return _kerashub("tensorflow", path, options)


def _kerashub(backend, path, options):
    os.environ.pop("TF_USE_LEGACY_KERAS")
    os.environ["KERAS_BACKEND"] = backend
    import keras_hub

    dtype = options.get("dtype", "float32")
    return lambda: keras_hub.models.Backbone.from_preset(path, dtype=dtype), None


def _forward_loadstone_flax(model, ids):
    return lambda: model(ids).logits, _temporary_bytes(
        lambda params: model(ids, params=params).logits, model.params
    )


def _forward_transformers_flax(model, ids):
    import jax

    compiled = jax.jit(lambda params, ids: model(ids, params=params).logits)
    return lambda: compiled(model.params, ids), _temporary_bytes(compiled, model.params, ids)


def _temporary_bytes(function, *arguments):
    import jax

    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def _forward_loadstone_tensorflow(model, ids):
    import tensorflow as tf

    compiled = tf.function(lambda ids: model(ids).logits)
    ids = tf.constant(ids)
    return lambda: compiled(ids), None


def _forward_kerashub_tensorflow(backbone, ids):
    import tensorflow as tf

    inputs = {"token_ids": tf.constant(ids), "padding_mask": tf.ones_like(ids)}
    compiled = tf.function(lambda inputs: backbone.token_embedding(backbone(inputs), reverse=True))
    return lambda: compiled(inputs), None


def read(path, options):
    """What moving the bytes costs: two threads, each file into one fresh block of memory."""
    import numpy as np

    def load():
        blocks = {file: _block(os.path.getsize(file)) for file in _weights(path)}

        def run(file, offset, size):
            _read_into(file, offset, memoryview(blocks[file])[offset : offset + size])

        _in_threads(run, blocks)
        return list(blocks.values())

    return load, lambda blocks: sum(
        int(np.frombuffer(b, np.uint8, len(b) // 8 * 8).view(np.int64).max()) for b in blocks
    )


def read_and_convert(path, options):
    """What moving and converting them costs, bfloat16 to float32: two threads, one buffer each, torch's own cast."""
    import torch

    torch.set_num_threads(1)

    def load():
        blocks = {file: _block(2 * os.path.getsize(file)) for file in _weights(path)}
        buffers = threading.local()

        def run(file, offset, size):
            if not hasattr(buffers, "held"):
                buffers.held = bytearray(PIECE)
            _read_into(file, offset, memoryview(buffers.held)[:size])
            narrow = torch.frombuffer(buffers.held, dtype=torch.bfloat16, count=size // 2)
            torch.frombuffer(blocks[file], dtype=torch.float32, count=size // 2, offset=2 * offset).copy_(
                narrow
            )

        _in_threads(run, blocks)
        return list(blocks.values())

    return load, None


def _weights(path):
    return [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(".safetensors")]


def _block(size):
    import mmap

    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _read_into(file, offset, view):
    descriptor = os.open(file, os.O_RDONLY)
    try:
        while len(view):
            count = os.preadv(descriptor, [view], offset)
            view, offset = view[count:], offset + count
    finally:
        os.close(descriptor)


def _in_threads(run, files):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [
            pool.submit(run, file, offset, min(PIECE, os.path.getsize(file) - offset))
            for file in files
            for offset in range(0, os.path.getsize(file), PIECE)
        ]
        for job in jobs:
            job.result()


def _touch_torch(torch) -> Touch:
    def touch(model):
        return _sum(
            parameter.detach().reshape(-1).view(torch.uint8).numpy() for parameter in model.parameters()
        )

    return touch


def _touch_jax(jax) -> Touch:
    import numpy as np

    def touch(model):
        arrays = (np.asarray(leaf) for leaf in jax.tree.leaves(model) if hasattr(leaf, "shape"))
        return _sum(array.reshape(-1).view(np.uint8) for array in arrays)

    return touch


def _sum(arrays) -> int:
    """Return what the words of arrays of bytes add up to, read by two threads: equal for equal models."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    def words(array):
        return int(array.view(np.uint64 if array.size % 8 == 0 else np.uint8).sum(dtype=np.uint64))

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(words, arrays)) % 2**64


def imports(path, options):
    """What an import takes; the path is "module" or "module:name"."""
    module, _, name = path.partition(":")

    def load():
        found = importlib.import_module(module)
        return getattr(found, name) if name else found

    return load, None


LOADERS = {
    function.__name__: function
    for function in (
        loadstone_torch,
        transformers_torch,
        loadstone_flax,
        transformers_flax,
        loadstone_tensorflow,
        transformers_tensorflow,
        kerashub_jax,
        kerashub_tensorflow,
        read,
        read_and_convert,
        imports,
    )
}


FORWARDS = {
    "loadstone_flax": _forward_loadstone_flax,
    "transformers_flax": _forward_transformers_flax,
    "loadstone_tensorflow": _forward_loadstone_tensorflow,
    "kerashub_tensorflow": _forward_kerashub_tensorflow,
}
"""From loader to a function of model and ids (1, T) int32, which returns a forward and its compiled temporaries' bytes."""
REPEATS = 20


def traffic() -> dict[str, int]:
    """Return the bytes that this process asked for by system calls, and those that storage had to deliver."""
    with open("/proc/self/io") as lines:
        counters = dict(line.split(": ") for line in lines)
    return {"asked_bytes": int(counters["rchar"]), "storage_bytes": int(counters["read_bytes"])}


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(loader: str, path: str, options: dict[str, object]) -> dict[str, object]:
    """Load once, and return seconds, bytes and what the bytes add up to."""
    wants_touch = options.pop("touch", True)
    start = time.perf_counter()
    load, touch = LOADERS[loader](path, options)
    imported = time.perf_counter()
    moved, processor = traffic(), processor_seconds()
    with Growth() as memory:
        begin = time.perf_counter()
        model = load()
        loaded = time.perf_counter()
        loading, loading_moved = processor_seconds(), traffic()
        total = touch(model) if touch and wants_touch else None
        touched = time.perf_counter()
    return {
        "import_seconds": imported - start,
        "load_seconds": loaded - begin,
        "load_processor_seconds": loading - processor,
        "touch_seconds": touched - loaded,
        "peak_bytes": memory.growth,
        "asked_bytes": loading_moved["asked_bytes"] - moved["asked_bytes"],
        "storage_bytes": traffic()["storage_bytes"] - moved["storage_bytes"],
        "sum": total,
        **reported(model),
    }


def measure_forward(loader: str, path: str, tokens: int, options: dict[str, object]) -> dict[str, object]:
    """Load, compile, and return the median time of a forward of (1, tokens) and the last position's largest logit."""
    load, _ = LOADERS[loader](path, options)
    import numpy as np

    forward, temporary = FORWARDS[loader](load(), (np.arange(tokens, dtype=np.int32) * 31 % 1000)[None])
    answer = np.asarray(forward()[0, -1], np.float32)
    times = []
    with Growth() as memory:
        for _ in range(REPEATS):
            begin = time.perf_counter()
            np.asarray(forward()[0, -1])
            times.append(time.perf_counter() - begin)
    return {
        "load_seconds": statistics.median(times),
        "touch_seconds": 0.0,
        "peak_bytes": memory.growth,
        "temporary_bytes": temporary,
        "answer": float(answer.max()),
    }


def reported(model: object) -> dict[str, int]:
    """Return what our own report says was read and mapped."""
    report = getattr(model, "load_report", None)
    return {"bytes_read": report.bytes_read, "bytes_mapped": report.bytes_mapped} if report else {}


if __name__ == "__main__":
    loader, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}")
    tokens = options.pop("forward", 0)
    print(
        json.dumps(
            measure_forward(loader, path, tokens, options) if tokens else measure(loader, path, options)
        )
    )
