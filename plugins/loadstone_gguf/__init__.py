"""GGUF files for loadstone: what llama.cpp's converters write, read with gguf-py."""
