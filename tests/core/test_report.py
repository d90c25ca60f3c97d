"""The report of a load: true to its plan, readable on one screen, plain data for machines."""

import dataclasses
import json

import pytest
from made_up import BASE, CHANNELS, CLASSIFIER, LM, ToyConfig, index, plan, shapes_of

from loadstone.backend import Device, Placement
from loadstone.errors import human_bytes
from loadstone.load.report import MAX_ROWS, LoadReport
from loadstone.planning.records import LoadPlan, Stored


def report(found: LoadPlan, **facts) -> LoadReport:
    known = {
        "model_class": "ToyModel",
        "backend": "toy",
        "location": "a folder",
        "commit": None,
        "placement": Placement.on(Device(name="cpu", is_host=True, free=0, total=0)),
    }
    return LoadReport(**known | {"dtype": "float32", "dtype_origin": "config", "plan": found} | facts)


@pytest.fixture
def mixed():
    """A report in which every state occurs."""
    shapes = {n: s for n, s in shapes_of(CLASSIFIER).items() if not n.startswith("score")}
    shapes |= {"model.layers.0.inv_freq": (2,), "stranger": (1,), "lm": (7, CHANNELS), "outputs.bias": (2,)}
    stored = index(shapes, dtypes={"model.norm.weight": "float16"}, aliases={"alias": "model.embed.weight"})
    found = plan(CLASSIFIER, stored, dtype="float32")
    return report(found, computed=("rotary.0.inv_freq", "rotary.1.inv_freq"))


def test_names_by_state(mixed):
    assert mixed.names("new") == ["score.weight", "score.bias"]
    assert mixed.names("cast") == ["model.norm.weight"]
    assert mixed.names("ignored") == ["model.layers.0.inv_freq", "outputs.bias"]
    assert mixed.names("unused") == ["stranger", "lm"]
    assert mixed.names("alias") == ["alias"]
    assert mixed.names("nothing of the kind") == []


def test_its_bytes_are_the_models_and_ties_count_once():
    stored = {n: s for n, s in shapes_of(LM).items() if n != "head.weight"}
    tied = report(plan(LM, stored, config=ToyConfig.from_dict({"architectures": ["ToyForCausalLM"]})))
    apart = report(plan(LM, shapes_of(LM)))
    assert apart.nbytes - tied.nbytes == 7 * CHANNELS * 4
    assert (
        report(plan(BASE, shapes_of(BASE), dtype="bfloat16")).nbytes
        < report(plan(BASE, shapes_of(BASE))).nbytes
    )


def test_loading_info_is_transformers():
    stored = shapes_of(CLASSIFIER) | {"score.weight": (9, CHANNELS), "stranger": (1,)}
    stored.pop("model.pooler.weight")
    info = report(plan(CLASSIFIER, stored, ignore_mismatched_sizes=True)).loading_info()
    assert info == {
        "missing_keys": {"model.pooler.weight"},
        "unexpected_keys": {"stranger"},
        "mismatched_keys": {("score.weight", (9, CHANNELS), (3, CHANNELS))},
        "error_msgs": [],
    }


def test_the_table(mixed):
    assert str(mixed).splitlines() == [
        "ToyModel (toy) from a folder",
        "  452 B in float32 (from the config) on cpu",
        "  state    number     bytes  dtype     name",
        "  new           1      48 B  float32   score.weight (task head)",
        "  new           1      12 B  float32   score.bias (task head)",
        "  cast          1      16 B  float32   model.norm.weight (stored as float16)",
        "  loaded        1     112 B  float32   model.embed.weight",
        "  loaded        2     128 B  float32   model.layers.{0...1}.proj.weight",
        "  loaded        2      64 B  float32   model.layers.{0...1}.router.weight",
        "  loaded        1       8 B  int64     model.norm.steps",
        "  loaded        1      64 B  float32   model.pooler.weight",
        "  computed      2         -  -         rotary.{0...1}.inv_freq",
        "  unused        1         -  -         stranger (no parameter of this name)",
        "  unused        1         -  -         lm (no parameter of this name)",
        "  ignored       1         -  -         model.layers.0.inv_freq (no model needs it)",
        "  ignored       1         -  -         outputs.bias (of ToyForQuestionAnswering)",
        "  alias         1         -  -         alias (of model.embed.weight)",
    ]  # fmt: skip


def test_a_tie_is_shown_with_what_it_is_tied_to():
    stored = {n: s for n, s in shapes_of(LM).items() if n != "head.weight"}
    text = str(report(plan(LM, stored, config=ToyConfig.from_dict({"architectures": ["ToyForCausalLM"]}))))
    assert "  tied          1         -  -         head.weight = model.embed.weight" in text


def test_what_a_load_cost_is_in_the_title(mixed):
    done = dataclasses.replace(
        mixed, commit="0123456789abcdef", bytes_read=2_500_000, bytes_mapped=17, seconds=1.234
    )
    title = str(done).splitlines()[:2]
    assert title[0] == "ToyModel (toy) from a folder @ 01234567"
    assert title[1].endswith("on cpu; 17 B mapped, 2.5 MB read, 1.23 s")


def test_any_report_fits_a_screen():
    model = shapes_of(BASE) | {f"part{chr(97 + i % 26)}{chr(97 + i // 26)}.weight": (1,) for i in range(300)}
    text = str(report(plan(BASE, model, model=model)))
    assert len(text.splitlines()) == 3 + MAX_ROWS
    assert text.splitlines()[-1].strip() == f"... and {306 - MAX_ROWS + 1} more rows (see .plan)"


def test_a_hundred_layers_are_a_few_rows():
    layers = shapes_of(BASE, layers=100)
    assert len(str(report(plan(BASE, layers, model=layers))).splitlines()) == 9


def test_what_is_to_be_looked_at_comes_first():
    """New parameters stand above what was loaded, however many rows there are."""
    many = {f"part{chr(97 + i % 26)}{chr(97 + i // 26)}.weight": (1,) for i in range(300)}
    found = plan(CLASSIFIER, shapes_of(BASE), model=shapes_of(CLASSIFIER), config=ToyConfig.from_dict({}))
    stored = {n: Stored(name=n, state="used") for n in many}
    text = str(report(dataclasses.replace(found, stored={**found.stored, **stored})))
    assert text.index("score.weight") < text.index("model.embed.weight")


def test_plain_data_for_machines(mixed):
    facts = json.loads(json.dumps(mixed.to_dict()))
    assert facts["parameters"]["model.norm.weight"] == {
        "state": "cast", "dtype": "float32", "shape": [CHANNELS], "from": "model.norm.weight",
    }  # fmt: skip
    assert facts["parameters"]["score.bias"]["from"] is None
    assert facts["stored"]["outputs.bias"] == {"state": "ignored", "why": "of ToyForQuestionAnswering"}
    assert facts["nbytes"] == mixed.nbytes and facts["device"] == "cpu" and facts["seconds"] is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_200_000_000, "2.2 GB"),
        (140_000_000_000_000, "140.0 TB"),
    ],
)
def test_bytes_for_people(number, text):
    assert human_bytes(number) == text
