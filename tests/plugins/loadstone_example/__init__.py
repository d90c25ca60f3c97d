"""A third party's plugin: an architecture with a PyTorch module, and a backend of plain numpy that has it too."""
