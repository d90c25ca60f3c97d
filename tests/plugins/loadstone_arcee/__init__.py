"""A plugin that is one file: a type like Llama, in every framework."""
