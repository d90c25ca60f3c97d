"""The archives of arrays that `numpy.savez` writes."""
