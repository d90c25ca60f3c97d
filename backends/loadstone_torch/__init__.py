"""PyTorch backend of loadstone."""
