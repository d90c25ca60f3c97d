"""A plugin whose models hold their parameters in another arrangement than checkpoints do."""
