"""Models that run while they are read: `wait=False`."""

import copy
import dataclasses
import gc
import os
import pickle
import threading
import time

import numpy as np
import pytest
import torch

import loadstone
from loadstone import LlamaForCausalLM
from loadstone.errors import ArgumentError, BackendError, ChangedFileError
from loadstone.read import arriving
from loadstone_torch.backend import TorchBackend
from loadstone_torch.blocks.away import Away
from tests.torch.tiny import IDS, same, state


def early(folder, **arguments):
    return LlamaForCausalLM.from_pretrained(folder, **{"wait": False, "read": "copy", **arguments})


def left(model) -> list[str]:
    return [name for name, value in model.named_parameters(remove_duplicate=False) if isinstance(value, Away)]


class Gate:
    """Lets the tensors of one unit after the other through."""

    def __init__(self, monkeypatch) -> None:
        self.seen, self.steps = [], threading.Semaphore(0)
        read = arriving.read_tensors

        def waiting(files, requests, **arguments):
            requests = list(requests)
            assert self.steps.acquire(timeout=30)
            self.seen.append(requests[0].name.rpartition(".")[0])
            yield from read(files, requests, **arguments)

        monkeypatch.setattr(arriving, "read_tensors", waiting)

    def open(self, number: int = 99) -> None:
        self.steps.release(number)


def ended() -> None:
    """Wait until nothing is read any more."""
    for thread in threading.enumerate():
        if thread.name == "loadstone-arriving":
            thread.join(30)


@pytest.fixture
def gate(monkeypatch):
    ended()
    gate = Gate(monkeypatch)
    yield gate
    gate.open()
    ended()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"dtype": "bfloat16", "read": "auto"},
        {"device_map": {"": "cpu", "model.layers.1": "disk"}},
        {"attn_implementation": "eager"},
    ],
    ids=str,
)
@pytest.mark.parametrize("case", ["llama", "tied"])
def test_the_text_is_that_of_a_model_that_was_waited_for(folders, case, arguments) -> None:
    waited = early(folders[case], **arguments, wait=True)
    model = early(folders[case], **arguments)
    assert torch.equal(model.generate(IDS, max_new_tokens=6), waited.generate(IDS, max_new_tokens=6))
    model.wait()
    assert left(model) == left(waited)
    if not left(model):
        assert same(state(model), state(waited))
        assert not any(module._forward_pre_hooks for module in model.modules())
    assert model.load_report.bytes_read == waited.load_report.bytes_read
    assert model.load_report.progress.done and model.load_report.on_its_way is None


def test_blocks_run_as_they_come_in_the_order_of_running(folders, gate) -> None:
    model = early(folders["llama"])
    expected = LlamaForCausalLM.from_pretrained(folders["llama"])(IDS).logits
    assert model.load_report.progress.fraction == 0 and not model.load_report.progress.done
    assert "still being read: lm_head.weight" in repr(model.lm_head.weight)
    assert len(left(model)) == len(dict(model.named_parameters()))
    ran, seen = threading.Event(), []
    model.model.layers[0].register_forward_hook(lambda *_: ran.set())

    def open_the_rest(*_: object) -> None:
        seen.append(model.load_report.progress.fraction)
        gate.open(3)

    model.model.layers[1].register_forward_hook(open_the_rest)

    def run() -> None:
        with torch.no_grad():
            seen.append(model(IDS).logits)
            seen.append(model.load_report.progress.fraction)

    thread = threading.Thread(target=run)
    thread.start()
    gate.open(1)
    assert ran.wait(30), "the first block runs, and what comes after it is not there"
    time.sleep(0.02)
    assert thread.is_alive() and 0 < model.load_report.progress.fraction < 0.6
    assert "of 67.7 kB read so far" in str(model.load_report)
    assert {name.split(".")[2] for name in left(model) if "layers" in name} == {"1", "2"}
    gate.open(1)
    thread.join(30)
    first, logits, last = seen
    assert first < last < 1, "of the table of words some rows were read, and the rest comes later"
    assert torch.equal(logits, expected)
    layers = [f"model.layers.{number}.self_attn.q_proj" for number in range(3)]
    assert gate.seen == [*layers, "model.norm", "lm_head"]
    assert left(model) == ["model.embed_tokens.weight"]
    gate.open()
    assert torch.equal(model(IDS).logits, expected) and not left(model)


def test_what_an_optimiser_holds_is_what_arrives(folders) -> None:
    model = early(folders["llama"]).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    held = list(model.parameters())
    model(IDS, labels=IDS).loss.backward()
    assert all(one is other for one, other in zip(held, model.parameters(), strict=True))
    before = state(model)
    optimiser.step()
    after = state(model)
    assert all(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.state_dict(),
        lambda model: copy.deepcopy(model).state_dict(),
        lambda model: pickle.loads(pickle.dumps(model)).state_dict(),
        lambda model: copy.deepcopy(model.model.layers[0]).state_dict(),
        lambda model: loadstone.to_backend(model, "torch").state_dict(),
        lambda model: model.to(torch.float64).state_dict(),
        lambda model: model.load_state_dict(model.state_dict()) and model.state_dict(),
    ],
)
def test_what_takes_the_model_whole_waits(folders, use) -> None:
    found = use(early(folders["tied"]))
    expected = use(early(folders["tied"], wait=True))
    assert same(found, expected) and not any(value.is_meta for value in found.values())


def test_saving_waits(folders, tmp_path) -> None:
    early(folders["llama"]).save_pretrained(tmp_path / "a")
    early(folders["llama"], wait=True).save_pretrained(tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_a_copied_report_is_of_the_whole_load(folders) -> None:
    for twin in (copy.deepcopy(early(folders["llama"])), pickle.loads(pickle.dumps(early(folders["llama"])))):
        assert twin.load_report.progress.done and twin.load_report.bytes_read == twin.load_report.nbytes


def test_a_compiled_model_waits_for_its_blocks(folders) -> None:
    expected = LlamaForCausalLM.from_pretrained(folders["llama"])(IDS).logits
    compiled = torch.compile(early(folders["llama"]), backend="eager")
    with torch.no_grad():
        assert all(torch.equal(compiled(IDS).logits, expected) for _ in range(2))


# Faults


def test_a_fault_is_told_where_the_block_would_have_run_and_ever_after(folder, gate) -> None:
    model = early(folder)
    ran = []
    for number, layer in enumerate(model.model.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    thread = threading.Thread(target=lambda: model.model.embed_tokens(IDS))
    thread.start()
    gate.open(2)  # the first block and, as it is asked for, the table of words
    thread.join(30)
    assert not thread.is_alive()
    file = folder / "model.safetensors"
    with open(file, "r+b") as stream:
        stream.truncate(os.path.getsize(file) - 1)
    gate.open()
    for _ in range(2):
        with pytest.raises(ChangedFileError):
            model(IDS)
    assert ran == [0, 0], "what came before it runs"
    for refused in (model.wait, model.state_dict, lambda: model.save_pretrained(folder / "saved")):
        with pytest.raises(ChangedFileError):
            refused()
    assert not model.load_report.progress.done
    assert isinstance(model.load_report.progress.fault, ChangedFileError)
    assert "fault: a file" in str(model.load_report)
    assert "still being read" in repr(model.lm_head.weight)


def test_what_a_backend_puts_late_is_looked_at_too(folders, monkeypatch) -> None:
    put = TorchBackend.put

    def lies(self, model, name, tensor, device):
        put(self, model, name, dataclasses.replace(tensor, data=np.ones_like(tensor.data)), device)

    monkeypatch.setattr(TorchBackend, "put", lies)
    model = early(folders["llama"])
    for _ in range(2):
        with pytest.raises(BackendError, match="did not do"):
            model.wait()


def test_a_backend_without_it_refuses(folders, monkeypatch) -> None:
    monkeypatch.setattr(
        TorchBackend, "capabilities", dataclasses.replace(TorchBackend.capabilities, arrives=False)
    )
    with pytest.raises(ArgumentError, match="still being read"):
        early(folders["llama"])


def test_a_model_that_is_dropped_is_read_no_more(folders, gate) -> None:
    model = early(folders["llama"])
    del model
    gc.collect()
    gate.open()
    ended()
    assert len(gate.seen) <= 1


def test_rows_of_a_table_that_is_not_there_are_looked_up_by_several_threads(folders, gate) -> None:
    model = early(folders["llama"], dtype="bfloat16")
    whole = LlamaForCausalLM.from_pretrained(folders["llama"], dtype="bfloat16").model.embed_tokens.weight
    found: list[bool] = []

    def look_up(first: int) -> None:
        with torch.no_grad():
            for number in range(first, 60, 2):
                ids = torch.tensor([[number, 0]])
                found.append(torch.equal(model.model.embed_tokens(ids), whole[ids]))

    threads = [threading.Thread(target=look_up, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 60 and all(found)
    assert left(model) and not gate.seen


def test_what_is_asked_for_comes_next(folders, gate) -> None:
    model = early(folders["llama"])
    gate.open(1)
    thread = threading.Thread(target=lambda: model.lm_head(torch.zeros(1, 24)))
    thread.start()
    while "lm_head.weight" not in model.load_report.on_its_way.arriving._wanted:
        time.sleep(0.001)
    gate.open(2)
    thread.join(30)
    assert not thread.is_alive() and "lm_head" in gate.seen[:3]
