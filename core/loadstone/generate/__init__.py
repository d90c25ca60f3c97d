"""Writing text: settings, prompts, and the choice of the next token."""
