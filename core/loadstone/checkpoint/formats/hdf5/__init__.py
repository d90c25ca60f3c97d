"""Weights that Keras and transformers' TensorFlow classes wrote: `tf_model.h5`."""
