"""One case: a tiny model of one class and configuration, what it is fed, and how the parts of a table are chosen.

Data only: nothing here imports a framework or numpy.
"""

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

SEQUENCE = 20
"""Tokens in a decoder's inputs: more than each sliding window and each original context of the cases."""
SHORT_SEQUENCE = 5
"""Tokens in the run that stays within each window and each original context."""
ENCODER_SEQUENCE = 13
BATCH = 2
CHOICES = 4

PROOF = "proof"
"""The run that every case has: all that the model takes at once, and all that it answers, with gradients."""
GREEDY = "greedy"
"""The run that every causal language model has: greedy generation after a padded prompt, through the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One architecture x task x configuration.

    Attributes:
        name: Unique, and the name of the folder that the oracle leaves.
        family: What tests select by; rows of one family need the same work in a backend.
        model_type: `model_type` of config.json.
        class_name: The model class, as transformers names it.
        task: `base`, `causal-lm`, `sequence-classification`, ...
        modality: Which inputs it takes: `decoder` or `encoder` (text), `choices` (text with an axis of choices), `image`.
        config: Configuration fields, in transformers 5's spelling.
        model_arguments: Further arguments of the model's class, such as `add_pooling_layer`.
        absent: Keys that transformers writes to config.json and older checkpoints lack; removed after saving.
        embedding_deviation: Standard deviation that embeddings are drawn with; small where the model scales them up, as
            a tied head would otherwise answer every token with itself.
        fed: What the proof is given beside tokens, mask and labels: `position_ids`, `token_type_ids`.
        attentions: Whether the model has attentions to show.
        feeds: The runs whose inputs can be drawn; `inputs.py` says what each feeds.
        runs: Those of them that are recorded, and that prove the case.
        gradients: Whether gradients are compared: once for each class of a table.
        answers: "module:function" that writes the case's folder where transformers has no such model; see `save_answers`.
        unseen: Pattern of fields of the spec, and of tensors -> why no answer of this case depends on them.
    """

    name: str
    family: str
    model_type: str
    class_name: str
    task: str
    modality: str
    config: Mapping[str, Any]
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    embedding_deviation: float = 0.4
    fed: tuple[str, ...] = ()
    attentions: bool = True
    feeds: tuple[str, ...]
    runs: tuple[str, ...] = (PROOF,)
    gradients: bool = True
    answers: str = ""
    unseen: Mapping[str, str] = field(default_factory=dict)

    @property
    def recorded(self) -> tuple[str, ...]:
        """The runs that the oracle records: the case's own, and tokens (or images) alone."""
        return tuple(dict.fromkeys((*self.runs, "plain")))


TASKS = {
    "Model": "base",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForPreTraining": "pre-training",
    "ElectraForPreTraining": "replaced-tokens",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForNextSentencePrediction": "next-sentence-prediction",
    "ForImageClassification": "image-classification",
}
"""Suffix of the class name -> task."""
LABELLED = {"sequence-classification", "token-classification", "image-classification"}

DECODER_FEEDS: tuple[str, ...] = ("plain", "left", "right", "positions", "embeds", "short", "bf16")
ENCODER_FEEDS: tuple[str, ...] = ("plain", "left", "right", "positions", "embeds", "bf16")
IMAGE_FEEDS: tuple[str, ...] = ("plain", "bf16")
GENERATION_FEEDS = ("keep", GREEDY, "generate", "generate_eos")

FIRST_OF_TYPE: tuple[str, ...] = (
    "plain",
    "left",
    "right",
    "positions",
    "embeds",
    "short",
    "types",
    "cache",
    "bf16",
    "interpolate",
)
"""What the first case of a model type shows beside its proof: every way to feed the body of a model."""
FIRST_OF_HEAD: tuple[str, ...] = ("right", "embeds", "keep", "cache")
"""What the first case of a head shows beside its proof: what a head passes on, or reads itself."""


def decoder(
    model_type: str,
    class_name: str,
    config: Mapping[str, Any],
    *,
    family: str = "",
    variant: str = "",
    absent: tuple[str, ...] = (),
    fed: tuple[str, ...] = ("position_ids",),
    runs: tuple[str, ...] = (),
    **more: Any,
) -> Case:
    """Return the case of a decoder of text.

    Args:
        model_type: `model_type` of config.json.
        class_name: The model class; its suffix is the task.
        config: Configuration fields.
        family: See `Case`; the model type where it is not given.
        variant: What follows the name, where a model type has several cases of a task.
        absent: See `Case`.
        fed: See `Case`.
        runs: More runs than a case of its place in the table has.
        more: Further attributes of `Case`.
    """
    feeds = DECODER_FEEDS
    feeds += ("types",) if "token_type_ids" in fed else ()
    task = task_of(class_name)
    feeds += ("cache",) if task in ("base", "causal-lm") else ()
    feeds += GENERATION_FEEDS if task == "causal-lm" else ()
    own = {"family": family or model_type, "absent": absent, "fed": fed}
    return _case(model_type, class_name, config, "decoder", feeds, variant, runs, **own, **more)


def encoder(
    model_type: str,
    class_name: str,
    config: Mapping[str, Any],
    *,
    variant: str = "",
    fed: tuple[str, ...] = ("position_ids",),
    positions: bool = True,
    runs: tuple[str, ...] = (),
    **more: Any,
) -> Case:
    """Return the case of an encoder of text.

    Args:
        model_type: As in `decoder`, and so are the others.
        class_name: The model class.
        config: Configuration fields.
        variant: What follows the name.
        fed: What its proof is given; a model that makes positions of its own from padding shows them where it is given none.
        positions: Whether it takes `position_ids` at all.
        runs: More runs.
        more: Further attributes of `Case`.
    """
    types = ("token_type_ids",) if config.get("type_vocab_size", 1) > 1 else ()
    feeds = (*ENCODER_FEEDS, "types") if types else ENCODER_FEEDS
    feeds = feeds if positions else tuple(run for run in feeds if run != "positions")
    modality = "choices" if class_name.endswith("ForMultipleChoice") else "encoder"
    more = {"family": model_type, "fed": fed + types, **more}
    return _case(model_type, class_name, config, modality, feeds, variant, runs, **more)


def image(
    model_type: str,
    class_name: str,
    config: Mapping[str, Any],
    *,
    variant: str = "",
    interpolates: bool = False,
    runs: tuple[str, ...] = (),
    **more: Any,
) -> Case:
    """Return the case of a model of images.

    Args:
        model_type: As in `decoder`, and so are the others.
        class_name: The model class; its suffix is the task.
        config: Configuration fields.
        variant: What follows the name.
        interpolates: Whether it takes images of other sizes by interpolating its position embeddings.
        runs: More runs.
        more: Further attributes of `Case`.
    """
    feeds = (*IMAGE_FEEDS, "interpolate") if interpolates else IMAGE_FEEDS
    more = {"family": model_type, **more}
    return _case(model_type, class_name, config, "image", feeds, variant, runs, **more)


def task_of(class_name: str) -> str:
    """Return the task of a class by its suffix.

    Raises:
        ValueError: If no task has it.
    """
    return TASKS[max((suffix for suffix in TASKS if class_name.endswith(suffix)), key=len)]


def _case(
    model_type: str,
    class_name: str,
    config: Mapping[str, Any],
    modality: str,
    feeds: tuple[str, ...],
    variant: str,
    runs: tuple[str, ...],
    **more: Any,
) -> Case:
    task = task_of(class_name)
    if task in LABELLED:
        config = {"num_labels": 3, **config}
    return Case(
        name="-".join(filter(None, (model_type, task, variant))),
        model_type=model_type,
        class_name=class_name,
        task=task,
        modality=modality,
        config=config,
        feeds=(PROOF, *feeds),
        runs=(PROOF, GREEDY, *runs) if task == "causal-lm" else (PROOF, *runs),
        **more,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What no answer of some cases depends on.

    Attributes:
        what: Pattern of a field of the spec, by its place there (`attention.rope.limit`), or of a parameter's name.
        why: The reason.
        cases: Patterns of the names of the cases.
    """

    what: str
    why: str
    cases: tuple[str, ...] = ("*",)


def table(
    rows: Iterable[Case], *, bodies: Mapping[str, str] | None = None, unseen: Iterable[Unseen] = ()
) -> dict[str, Case]:
    """Return name -> case, each with the runs of its place: the first of a model type and of a head show more.

    Args:
        rows: The cases.
        bodies: Model type -> the one whose heads it shares; a type that is not named has its own.
        unseen: What is true of several cases.

    Raises:
        ValueError: If two rows have one name.
    """
    found: dict[str, Case] = {}
    unseen, types, classes = tuple(unseen), set[str](), set[str]()
    heads: set[tuple[str, str]] = set()
    for case in rows:
        if case.name in found:
            raise ValueError(f"two cases are named {case.name}")
        head = ((bodies or {}).get(case.model_type, case.model_type), case.task)
        more: tuple[str, ...] = () if head in heads or case.task == "base" else FIRST_OF_HEAD
        more = more if case.model_type in types else FIRST_OF_TYPE
        shown = {"positions"} if "position_ids" in case.fed else set()
        runs = dict.fromkeys((*case.runs, *(run for run in more if run in case.feeds and run not in shown)))
        known = {u.what: u.why for u in unseen if any(fnmatch.fnmatchcase(case.name, p) for p in u.cases)}
        found[case.name] = replace(
            case,
            runs=tuple(runs),
            gradients=case.gradients and case.class_name not in classes,
            unseen=known | dict(case.unseen),
        )
        classes.add(case.class_name)
        types.add(case.model_type)
        heads.add(head)
    return found
