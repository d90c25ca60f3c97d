"""Asking transformers: the only modules of loadstone that import it, in a process of their own."""
