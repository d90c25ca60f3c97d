"""Saving: how files are laid out, written, switched, and pushed to the Hub."""
