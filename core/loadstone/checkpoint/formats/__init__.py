"""One module for each format of files of weights."""
