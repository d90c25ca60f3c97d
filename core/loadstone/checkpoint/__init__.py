"""What is in a checkpoint's files: one index of tensors, whatever the format; and writing it."""
