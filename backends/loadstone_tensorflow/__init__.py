"""TensorFlow backend of loadstone: Keras 3 models. Keras opens their files once this is imported."""

from loadstone_tensorflow import stand_ins

stand_ins.offer_when_imported()
