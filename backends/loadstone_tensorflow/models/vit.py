"""ViT in TensorFlow.

B batch, T tokens, H heads, C hidden size, L labels.
Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures.vit import ARCHITECTURES, ViTSpec
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone.model.outputs import ModelOutput
from loadstone_tensorflow.blocks.embeddings import PatchEmbeddings
from loadstone_tensorflow.blocks.encoder import Encoder
from loadstone_tensorflow.blocks.layer import NestedLayer
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.heads import ForImageClassification, Output
from loadstone_tensorflow.layers import Linear

Tensor: TypeAlias = tf.Tensor


class ViTEmbeddings(PatchEmbeddings):
    """A class token and the patches, with positions added."""


class ViTLayer(NestedLayer):
    """Attention and feed-forward, each normalised before and added to its input."""


class TFViTModel(Encoder):
    """ViT without a head: images to hidden states."""

    spec: ViTSpec  # type: ignore[assignment]
    embeddings_class, layer_class = ViTEmbeddings, ViTLayer

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        interpolate_pos_encoding: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Output:
        """Run the encoder.

        Args:
            pixel_values: (B, channels, height, width), normalised as the checkpoint's processor says.
            interpolate_pos_encoding: Take images of another size than the trained one.
            output_attentions: Return the weights of each layer, (B, H, T, T).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.
            training: Apply dropout.

        Returns:
            `last_hidden_state` (B, T, C), `pooler_output` (B, pooler size), `hidden_states`, `attentions`.

        Raises:
            ArgumentError: If the images are of another size, and that was not asked for.
        """
        pixels = tf.cast(pixel_values, self.compute_dtype)
        x = self.embeddings(pixels, bool(interpolate_pos_encoding), training)
        return self.encode(x, None, output_attentions, output_hidden_states, return_dict, training)


class TFViTForImageClassification(ForImageClassification):
    """ViT with a head that classifies an image by its class token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.classifier = Linear(self.spec.hidden_size, self.spec.classifier.num_labels)

    def image_scores(self, base: ModelOutput) -> Tensor:
        """The class token, classified: (B, L)."""
        return self.classifier(base.last_hidden_state[:, 0])


add_classes(globals(), ARCHITECTURES, prefix="TF")
