"""Weights that Flax serialised: `flax_model.msgpack`."""
