"""What every model has, in every framework: loading, saving, embeddings, outputs."""
