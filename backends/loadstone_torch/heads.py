"""Task heads that families share. A family's class says where the base model sits by its architecture's prefix.

B batch, T tokens, C hidden size, V vocabulary, L labels, N choices.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loadstone.architectures import ClassifierSpec, owner
from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.model.outputs import ModelOutput
from loadstone_torch.blocks.run import place
from loadstone_torch.blocks.scores import Scores, add_scores, scored
from loadstone_torch.layers import ACTIVATIONS, Linear
from loadstone_torch.losses import causal_lm_loss, sequence_loss, span_loss, token_loss
from loadstone_torch.modeling import PreTrainedModel

Output = ModelOutput | tuple[Any, ...]


class Headed(PreTrainedModel):
    """A base model, under its prefix, and a head."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        base: PreTrainedModel = self.build_base(config)
        self.add_module(self.base_model_prefix, base)
        _name_inputs(type(self), type(base))

    def run_base(self, *inputs: Any, **named: Any) -> ModelOutput:
        """Run the base model; a head's `forward` adds its own fields to what it returns."""
        output: ModelOutput = self.base_model(*inputs, return_dict=True, **named)
        return output


@functools.cache
def _name_inputs(model_class: type[Headed], base_class: type[PreTrainedModel]) -> None:
    """Name the base model's inputs in the signature of `forward`, where its code says `**inputs`.

    Trainer drops each column of a dataset that it does not find there, and `torch.export` names inputs by it.
    """
    forward = model_class.forward
    own = inspect.signature(forward).parameters
    if "inputs" not in own:
        return
    rest = inspect.signature(base_class.forward).parameters
    named = [p for name, p in own.items() if name != "inputs"]
    named += [p.replace(kind=p.KEYWORD_ONLY) for name, p in rest.items() if name not in own]

    @functools.wraps(forward)  # a function of this class alone: the other is shared with other families
    def with_names(self: Headed, *args: Any, **kwargs: Any) -> Output:
        return forward(self, *args, **kwargs)

    returns = inspect.signature(forward).return_annotation
    with_names.__signature__ = inspect.Signature(named, return_annotation=returns)  # type: ignore[attr-defined]
    model_class.forward = with_names


class ForCausalLM(Headed):
    """A decoder with a head that scores the next token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score the next token at each position; other inputs as the base model's.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S), zero at padding.
            labels: (B, T) token ids, -100 where ignored; the shift by one happens here.
            logits_to_keep: Score only this many last positions (0: all), or the positions of an index tensor.
            return_dict: False returns a tuple.
            **inputs: See the base model.

        Returns:
            `loss`, `logits` (B, T, V), and what the base model returns beside its last state.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(base.last_hidden_state[:, kept])
        if (scale := self.spec.logit_scale) != 1.0:
            logits = logits * scale
        if (cap := self.spec.logit_softcap) is not None:
            logits = cap * torch.tanh(logits / cap)
        loss = None if labels is None else causal_lm_loss(logits, labels)
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


class ForMaskedLM(Headed):
    """An encoder with a head that fills in masked tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if path := self._path:
            place(self, path, Scores(self.spec, path))
        else:
            add_scores(self, self.spec, path)

    @property
    def _path(self) -> str:
        """Where checkpoints have the head; "": side by side with the base model."""
        return owner(self.spec.names.scores.decoder)

    def token_scores(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        if path := self._path:
            logits: Tensor = self.get_submodule(path)(x)
            return logits
        return scored(self, self.spec, path, x)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score every token of the vocabulary; other inputs as the base model's, `labels` (B, T) with -100 where ignored.

        Returns:
            `loss`, `logits` (B, T, V), and what the base model returns beside its last state.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.token_scores(base.last_hidden_state)
        loss = None if labels is None else token_loss(logits, labels)
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


class ForLastTokenClassification(Headed):
    """A decoder with a head that classifies a sequence by its last token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.score = Linear(self.spec.hidden_size, self.spec.classifier.num_labels, bias=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify; other inputs as the base model's, `labels` (B,) classes or values, or (B, L) for several.

        Returns:
            `loss`, `logits` (B, L), and what the base model returns beside its last state.

        Raises:
            ArgumentError: If a batch has no padding token to find the ends of its sequences by.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        x = base.last_hidden_state
        last = self._last_token(input_ids, len(x), x.device)
        logits = self.score(x[torch.arange(len(x), device=x.device), last])
        loss = None if labels is None else sequence_loss(logits, labels, self.classifier_spec())
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())

    def _last_token(self, input_ids: Tensor | None, batch: int, device: torch.device) -> Tensor | int:
        """Return the position (B,) of the last token that is not padding, wherever the padding is."""
        pad = self.classifier_spec().pad_token_id
        if pad is None and batch != 1:
            raise ArgumentError("a batch of several sequences needs config.pad_token_id to find their ends")
        if pad is None or input_ids is None:
            return -1
        positions = torch.arange(input_ids.shape[1], device=device)
        return (positions * (input_ids != pad)).argmax(-1)


class ForTokenClassification(Headed):
    """A base model with a head that classifies each token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(self.spec.classifier.token_dropout)
        classifier = Linear(self.spec.hidden_size, self.spec.classifier.num_labels)
        place(self, self.spec.names.classifier, classifier)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify each token; other inputs as the base model's, `labels` (B, T) with -100 where ignored.

        Returns:
            `loss`, `logits` (B, T, L), and what the base model returns beside its last state.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = getattr(self, self.spec.names.classifier)(self.dropout(base.last_hidden_state))
        loss = None if labels is None else token_loss(logits, labels)
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


class ForQuestionAnswering(Headed):
    """A base model with a head that scores where an answer starts and ends."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.qa_outputs = Linear(self.spec.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score each token as start and as end; other inputs as the base model's, positions (B,).

        Returns:
            `loss`, `start_logits` (B, T), `end_logits` (B, T), and what the base model returns beside its last state.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        x = F.dropout(base.last_hidden_state, self.spec.classifier.answer_dropout, self.training)
        starts, ends = self.qa_outputs(x).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(starts, ends, start_positions, end_positions)
        return self.result(return_dict, loss=loss, start_logits=starts, end_logits=ends, **base.rest())


class ForPooledClassification(Headed):
    """An encoder with a head that classifies a sequence by one vector for all of it.

    Attributes:
        chooses: It gives one score, by which several sequences are compared.
    """

    reads_pooled = True
    chooses: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        spec, classifier = self.spec, self.spec.classifier
        if spec.names.pre_classifier:
            place(self, spec.names.pre_classifier, Linear(spec.hidden_size, spec.hidden_size))
        self.dropout = nn.Dropout(classifier.choice_dropout if self.chooses else classifier.dropout)
        self.classifier = Linear(spec.hidden_size, 1 if self.chooses else classifier.num_labels)

    def pooled(self, base: ModelOutput) -> Tensor:
        """Return one vector a sequence, (B, C): the pooler's, or `act(pre_classifier(first token))`."""
        name = self.spec.names.pre_classifier
        if not name:
            vector: Tensor = base.pooler_output
            return vector
        activation = ACTIVATIONS[self.spec.classifier.activation]
        return activation(self.module_at(name)(base.last_hidden_state[:, 0]))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify; other inputs as the base model's, `labels` (B,) classes or values, or (B, L) for several.

        Returns:
            `loss`, `logits` (B, L), and what the base model returns beside its states.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.classifier(self.dropout(self.pooled(base)))
        loss = None if labels is None else sequence_loss(logits, labels, self.classifier_spec())
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


class ClassificationHead(nn.Module):
    """out_proj(act(dense(first token)))."""

    def __init__(self, spec: ClassifierSpec, hidden_size: int) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(spec.dropout)
        self.out_proj = Linear(hidden_size, spec.num_labels)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, L)."""
        x = self.dropout(x[:, 0])
        logits: Tensor = self.out_proj(self.dropout(self.activation(self.dense(x))))
        return logits


class ForFirstTokenClassification(Headed):
    """An encoder with a head that classifies a sequence by its first token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.classifier = ClassificationHead(self.spec.classifier, self.spec.hidden_size)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify; other inputs as the base model's, `labels` (B,) classes or values, or (B, L) for several.

        Returns:
            `loss`, `logits` (B, L), and what the base model returns beside its states.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.classifier(base.last_hidden_state)
        loss = None if labels is None else sequence_loss(logits, labels, self.classifier_spec())
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


class ForMultipleChoice(ForPooledClassification):
    """An encoder with a head that scores each of several continuations."""

    chooses = True

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Choose; inputs as the base model's with an axis N of choices after B, `labels` (B,).

        Returns:
            `loss`, `logits` (B, N), and what the base model returns beside its states.
        """
        named = {"input_ids": input_ids, "attention_mask": attention_mask, **inputs}
        given = {name: value for name, value in named.items() if value is not None}
        choices = next(value.shape[1] for value in given.values() if isinstance(value, Tensor))
        flat = {
            name: v.flatten(0, 1) if isinstance(v, Tensor) else v for name, v in given.items()
        }  # (B*N, ...)
        base = self.run_base(**flat)
        logits = self.classifier(self.dropout(self.pooled(base))).view(-1, choices)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


class ForImageClassification(Headed):
    """A base model with a head that classifies an image."""

    def image_scores(self, base: ModelOutput) -> Tensor:
        """Return (B, L); each family reads something else of its base model."""
        raise NotImplementedError

    def forward(
        self,
        pixel_values: Tensor,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify; other inputs as the base model's, `labels` (B,).

        Returns:
            `loss`, `logits` (B, L), and what the base model returns beside its states.
        """
        base = self.run_base(pixel_values, **inputs)
        logits = self.image_scores(base)
        loss = None if labels is None else sequence_loss(logits, labels, self.classifier_spec())
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())
