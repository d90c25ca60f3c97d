"""The read engine: from files to host tensors, each needed byte once or not at all."""
