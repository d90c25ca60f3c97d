"""TensorFlow and Keras 3 on top of it, checked once; the backend's modules import both from here.

Which framework Keras computes with is the user's choice, made before Keras is imported. It is read here and never set.
"""

from __future__ import annotations

import os
import sys

from loadstone.errors import BackendError, MissingFrameworkError


def _refuse_legacy_keras() -> None:
    # The values that TensorFlow itself takes for true.
    if os.environ.get("TF_USE_LEGACY_KERAS") in ("true", "True", "1"):
        raise BackendError(
            "the TensorFlow backend needs Keras 3, and tf.keras is set to Keras 2 (tf_keras)",
            where="the environment variable TF_USE_LEGACY_KERAS",
            found=os.environ["TF_USE_LEGACY_KERAS"],
            hint="unset it, and start Python again",
        )


def _refuse_other_backend(backend: str, where: str) -> None:
    if backend != "tensorflow":
        raise BackendError(
            "the TensorFlow backend needs Keras to compute with TensorFlow",
            where=where,
            expected="tensorflow",
            found=backend,
            hint="set KERAS_BACKEND=tensorflow before Keras is imported, and start Python again",
        )


def _refuse_keras_2(version: str) -> None:
    if int(version.partition(".")[0]) < 3:
        raise MissingFrameworkError(
            "the TensorFlow backend needs Keras 3",
            expected="keras 3.8 or later",
            found=f"keras {version}",
            hint="pip install 'keras>=3.8'",
        )


_refuse_legacy_keras()
if "keras" not in sys.modules:  # before a wrong choice imports that framework, or fails to
    _refuse_other_backend(
        os.environ.get("KERAS_BACKEND") or "tensorflow", "the environment variable KERAS_BACKEND"
    )

import keras

_refuse_keras_2(keras.__version__)
_refuse_other_backend(keras.config.backend(), "KERAS_BACKEND, or the file keras.json")

import tensorflow as tf
from tensorflow.python.client import device_lib
from tensorflow.python.eager import record

__all__ = ["device_lib", "keras", "record", "tf"]
