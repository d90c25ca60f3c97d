"""Blocks: what all models are composed of. Each is built from its part of the spec, and from the names that checkpoints have for it.

A model's whole way, from leaf to root:

```
attention      queries, keys and values, rotated and cached, mixed          AttentionSpec, AttentionNames
masks          where each token may look
biases         what distance adds to the scores                             BucketSpec
feedforward    the widened middle, plain or gated                           FeedForwardSpec, FeedForwardNames
embeddings     tokens, positions, types, patches; the pooler                EmbeddingSpec, PatchSpec, PoolerSpec
layer          attention and feed-forward with their norms: the diagrams    LayerSpec, Names
run            run_blocks, the one loop over layers; what a layer is given
scores         the masked-token head's layers                               ScoreSpec, ScoreNames
decoder        tokens to states, each from those before it, with a cache    DecoderSpec
encoder        tokens or patches to states, each from all others            EncoderSpec
```

A family's file in `models/` names the classes that users know (`LlamaDecoderLayer`, `TFBertModel`), and holds what only that family does.

A layer that a checkpoint has stands at the checkpoint's path, and is called there. Inside a block, names are relative to the block; a part
is looked up by name at each call, because users replace it.
"""
