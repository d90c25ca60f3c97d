"""TensorFlow backend of loadstone: Keras 3 models."""
