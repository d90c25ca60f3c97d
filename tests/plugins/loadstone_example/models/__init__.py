"""The families that the plain backend has, one module each."""
