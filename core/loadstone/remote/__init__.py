"""Code that comes with a checkpoint: which files it is, whether the caller trusts them, and running them.

`references` reads an `auto_map`, `code` gathers the files that it leads to without running any, `trust` asks whether the
caller said that they may run, `modules` imports them, and `adopting` makes of their classes what the engine loads.
"""
