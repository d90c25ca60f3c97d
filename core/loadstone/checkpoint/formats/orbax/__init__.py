"""The checkpoints of arrays that Orbax writes, which Flax's users save."""
