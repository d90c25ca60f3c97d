"""The folders that `torch.distributed.checkpoint` writes."""
