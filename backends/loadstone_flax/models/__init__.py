"""Model classes, one module per family."""
