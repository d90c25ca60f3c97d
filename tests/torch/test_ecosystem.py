"""The models in the hands of PyTorch's own tools, of PEFT and of transformers' Trainer."""

import copy
import inspect
import io
import pickle
from collections.abc import Iterator
from typing import Any

import peft
import pytest
import torch
import transformers
from torch.utils import _pytree as pytree

import loadstone
from loadstone.errors import ArgumentError
from loadstone.model.outputs import ModelOutput
from loadstone.testing.cases import CASES
from loadstone_torch.generation import Cache
from loadstone_torch.heads import ForPooledClassification
from tests.oracle import load

torch.set_num_threads(1)

LLAMA, BERT = "llama-causal-lm-tied", "bert-sequence-classification-single-label"
IDS = torch.tensor([[5, 17, 42, 8, 3, 29], [11, 2, 60, 33, 7, 54]])
FAMILIES = ("llama-causal-lm", "gemma2-causal-lm", "gpt2-causal-lm", "bert-masked-lm", "distilbert-base")
FAMILIES += ("roberta-token-classification", "vit-image-classification", "resnet-image-classification")


def of_case(case: str, **arguments: Any) -> Any:
    """Load a case's checkpoint into its own class."""
    model_class = getattr(loadstone, CASES[case].class_name)
    return model_class.from_pretrained(load.folder(case), **arguments)


def inputs_of(case: str) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(value.copy())
        for name, value in load.run(case, "plain").inputs.items()
        if value.ndim and "label" not in name and "position" not in name
    }


@pytest.fixture
def llama() -> Any:
    return of_case(LLAMA)


@pytest.fixture
def bert() -> Any:
    return of_case(BERT)


@pytest.fixture
def compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients(model: Any, **inputs: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss and the gradients of a training step; what dropout draws is the same each time."""
    model.zero_grad()
    torch.manual_seed(0)
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def kept_numbers(model: Any, **inputs: Any) -> int:
    """Return how many numbers a forward pass keeps for the backward pass."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(**inputs)
    return kept


class TestCopies:
    @staticmethod
    def by_torch(model: Any) -> Any:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        return torch.load(file, weights_only=False)

    @pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch"])
    def test_a_copy_is_whole_and_its_own(self, llama: Any, how: str) -> None:
        ways = {
            "deepcopy": copy.deepcopy,
            "pickle": lambda m: pickle.loads(pickle.dumps(m)),
            "torch": self.by_torch,
        }
        expected = llama(IDS).logits
        copied = ways[how](llama)
        assert torch.equal(copied(IDS).logits, expected)
        assert copied.lm_head.weight is copied.model.embed_tokens.weight
        assert copied.config == llama.config
        assert copied.generation_config == llama.generation_config
        assert str(copied.load_report) == str(llama.load_report)
        with torch.no_grad():
            copied.lm_head.weight.zero_()
        assert torch.equal(llama(IDS).logits, expected)

    def test_a_state_dict_goes_through_a_file(self, llama: Any) -> None:
        file = io.BytesIO()
        torch.save(llama.state_dict(), file)
        file.seek(0)
        other = type(llama).from_config(llama.config, seed=1).eval()
        assert not torch.equal(other(IDS).logits, llama(IDS).logits)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other(IDS).logits, llama(IDS).logits)


class TestTrees:
    def test_outputs_are_walked_by_their_names(self, llama: Any) -> None:
        output = llama(IDS, output_hidden_states=True)
        leaves, form = pytree.tree_flatten(output)
        assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
        again = pytree.tree_unflatten(leaves, form)
        assert type(again) is ModelOutput
        assert list(again) == ["logits", "past_key_values", "hidden_states"]
        assert type(again.past_key_values) is Cache
        assert again.past_key_values.get_seq_length() == IDS.shape[1]
        paths = {pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(output)[0]}
        assert {"['logits']", "['past_key_values'][0][1]", "['hidden_states'][2]"} <= paths

    def test_outputs_of_replicas_are_gathered(self, llama: Any) -> None:
        halves = [llama(half, use_cache=False) for half in IDS.split(1)]
        # As `DataParallel` does it, which needs several GPUs.
        gathered = type(halves[0])((name, torch.cat([half[name] for half in halves])) for name in halves[0])
        torch.testing.assert_close(gathered.logits, llama(IDS).logits)


@pytest.mark.usefixtures("compiler")
class TestCompile:
    def test_llama_in_one_graph(self, llama: Any) -> None:
        compiled = torch.compile(llama, backend="aot_eager", fullgraph=True)
        mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
        output, expected = compiled(IDS, attention_mask=mask), llama(IDS, attention_mask=mask)
        assert type(output) is ModelOutput
        torch.testing.assert_close(output.logits, expected.logits)
        following = llama(IDS[:, :1], past_key_values=output.past_key_values)
        again = llama(IDS[:, :1], past_key_values=expected.past_key_values)
        torch.testing.assert_close(following.logits, again.logits)

    def test_bert_trains_in_one_graph(self, bert: Any) -> None:
        inputs = {"input_ids": IDS, "labels": torch.tensor([0, 2])}
        expected = gradients(bert, **inputs)
        loss, found = gradients(torch.compile(bert, backend="aot_eager", fullgraph=True), **inputs)
        torch.testing.assert_close(loss, expected[0])
        assert len(found) == len(expected[1])
        for name, value in expected[1].items():
            torch.testing.assert_close(found[f"_orig_mod.{name}"], value)


class TestExport:
    @pytest.mark.parametrize("case", FAMILIES)
    def test_every_family_is_a_graph(self, case: str) -> None:
        model, inputs = of_case(case), inputs_of(case)
        program = torch.export.export(model, (), inputs)
        output, expected = program.module()(**inputs), model(**inputs)
        assert type(output) is ModelOutput
        assert list(output) == list(expected)
        torch.testing.assert_close(output[0], expected[0])

    @pytest.mark.parametrize("case", [LLAMA, BERT])
    def test_sizes_stay_free_and_the_program_goes_through_a_file(self, case: str) -> None:
        model = of_case(case)
        batch, tokens = torch.export.Dim("batch", max=8), torch.export.Dim("tokens", min=2, max=32)
        inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
        shapes = {name: {0: batch, 1: tokens} for name in inputs}
        file = io.BytesIO()
        torch.export.save(torch.export.export(model, (), inputs, dynamic_shapes=shapes), file)
        file.seek(0)
        other = {"input_ids": IDS.flatten()[None, :9], "attention_mask": torch.ones(1, 9, dtype=torch.long)}
        found = torch.export.load(file).module()(**other)
        torch.testing.assert_close(found.logits, model(**other).logits)


class TestGradientCheckpointing:
    @pytest.mark.parametrize(
        ("case", "labels"),
        [(LLAMA, IDS), (BERT, torch.tensor([0, 2])), ("gpt2-causal-lm", IDS), ("distilbert-masked-lm", IDS)],
    )
    def test_the_same_gradients_from_fewer_activations(self, case: str, labels: torch.Tensor) -> None:
        dropout = (
            {} if case == LLAMA else {"dropout": 0.3} if "distil" in case else {"hidden_dropout_prob": 0.3}
        )
        model = of_case(case, **({"resid_pdrop": 0.3} if "gpt2" in case else dropout)).train()
        inputs = {"input_ids": IDS, "labels": labels}
        loss, expected = gradients(model, **inputs)
        everything = kept_numbers(model, **inputs)
        model.gradient_checkpointing_enable()
        assert model.is_gradient_checkpointing
        found = gradients(model, **inputs)
        assert torch.equal(found[0], loss)
        assert found[1].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[1][name], value, msg=name)
        fewest = kept_numbers(model, **inputs)
        assert fewest < everything / 2
        model.gradient_checkpointing_enable(every_n_layers=2)
        assert fewest < kept_numbers(model, **inputs) < everything
        model.gradient_checkpointing_disable()
        assert kept_numbers(model, **inputs) == everything

    def test_no_cache_is_filled_twice(self, llama: Any) -> None:
        llama.gradient_checkpointing_enable()
        assert llama(IDS).past_key_values is not None, "in inference nothing changes"
        llama.train()
        assert llama(IDS, use_cache=True).past_key_values is None
        cache = Cache()
        output = llama(IDS, labels=IDS, past_key_values=cache)
        output.loss.backward()
        assert cache.get_seq_length() == IDS.shape[1]

    def test_what_cannot_be_is_refused(self, llama: Any) -> None:
        resnet = of_case("resnet-image-classification")
        assert not resnet.supports_gradient_checkpointing
        with pytest.raises(ArgumentError, match="no layers"):
            resnet.gradient_checkpointing_enable()
        with pytest.raises(ArgumentError, match="offloaded"):
            llama.activation_checkpointing_enable(offload=True)


class TestPEFT:
    @pytest.fixture
    def lora(self, llama: Any) -> Any:
        """LoRA on Llama, trained two steps; the first moves only what is zero at the start."""
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        torch.manual_seed(0)
        adapted = peft.get_peft_model(llama, config).train()
        trained = [p for p in adapted.parameters() if p.requires_grad]
        assert len(trained) == 2 * 2 * llama.config.num_hidden_layers
        optimizer = torch.optim.SGD(trained, lr=1.0)
        for _ in range(2):
            optimizer.zero_grad()
            adapted(input_ids=IDS, labels=IDS).loss.backward()
            optimizer.step()
        return adapted.eval()

    def test_lora_trains_saves_loads_and_merges(self, lora: Any, tmp_path: Any) -> None:
        base = of_case(LLAMA)
        expected = lora(input_ids=IDS).logits
        assert (expected - base(IDS).logits).abs().max() > 0.01
        for name, value in base.state_dict().items():
            adapted = name.replace("_proj.weight", "_proj.base_layer.weight")
            held = lora.base_model.model.state_dict()
            assert torch.equal(held[adapted if adapted in held else name], value), name
        with pytest.raises(ArgumentError, match="merge_and_unload"):
            lora.base_model.model.save_pretrained(tmp_path / "wrapped")
        lora.save_pretrained(tmp_path / "adapter")
        assert lora.peft_config["default"].base_model_name_or_path == str(load.folder(LLAMA))
        loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
        assert torch.equal(loaded(input_ids=IDS).logits, expected)
        merged = loaded.merge_and_unload()
        assert type(merged) is loadstone.LlamaForCausalLM
        torch.testing.assert_close(merged(IDS).logits, expected)
        merged.save_pretrained(tmp_path / "merged")
        again = loadstone.LlamaForCausalLM.from_pretrained(tmp_path / "merged")
        assert torch.equal(again(IDS).logits, merged(IDS).logits)

    def test_the_adapter_fits_transformers_model(self, lora: Any, tmp_path: Any) -> None:
        lora.save_pretrained(tmp_path)
        theirs = transformers.LlamaForCausalLM.from_pretrained(load.folder(LLAMA))
        adapted = peft.PeftModel.from_pretrained(theirs, tmp_path).eval()
        torch.testing.assert_close(adapted(input_ids=IDS).logits, lora(input_ids=IDS).logits)

    def test_an_adapted_model_generates(self, lora: Any) -> None:
        found = lora.generate(input_ids=IDS, max_new_tokens=5, eos_token_id=[])
        assert torch.equal(found, by_hand(lora, 5))

    def test_lora_trains_through_checkpointed_layers(self, lora: Any) -> None:
        lora.train()
        loss, expected = gradients(lora, input_ids=IDS, labels=IDS)
        lora.gradient_checkpointing_enable()
        lora.enable_input_require_grads()
        found = gradients(lora, input_ids=IDS, labels=IDS)
        assert torch.equal(found[0], loss)
        for name, value in expected.items():
            torch.testing.assert_close(found[1][name], value, msg=name)

    @pytest.mark.parametrize("kind", [peft.PromptTuningConfig, peft.PrefixTuningConfig])
    def test_virtual_tokens_are_seen_in_generation(self, llama: Any, kind: Any) -> None:
        plain = llama.generate(IDS, max_new_tokens=5, eos_token_id=[])
        torch.manual_seed(0)
        adapted = peft.get_peft_model(llama, kind(num_virtual_tokens=3, task_type="CAUSAL_LM")).eval()
        with torch.no_grad():
            adapted.prompt_encoder["default"].embedding.weight.normal_(std=2)
        found = adapted.generate(input_ids=IDS, max_new_tokens=5, eos_token_id=[])
        assert torch.equal(found, by_hand(adapted, 5))
        assert not torch.equal(found, plain)


def by_hand(model: Any, steps: int) -> torch.Tensor:
    """Continue the ids greedily, each step from the start."""
    ids = IDS
    for _ in range(steps):
        ids = torch.cat((ids, model(input_ids=ids).logits[:, -1:].argmax(-1)), dim=1)
    return ids


class TestTrainer:
    @pytest.fixture
    def trainer(self, tmp_path: Any) -> Any:
        """Return a Trainer of three steps on a model."""

        def make(model: Any, **arguments: Any) -> transformers.Trainer:
            settings = transformers.TrainingArguments(
                str(tmp_path),
                max_steps=3,
                per_device_train_batch_size=2,
                learning_rate=1e-2,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                **arguments,
            )
            rows = [
                {"input_ids": row, "labels": row, "unknown": 1} for row in (*IDS, *IDS.flip(1), *IDS.flip(0))
            ]
            return transformers.Trainer(model, settings, train_dataset=rows, eval_dataset=rows)

        return make

    @pytest.mark.parametrize("arguments", [{}, {"gradient_checkpointing": True}])
    def test_three_steps_are_those_of_transformers_model(self, trainer: Any, arguments: Any) -> None:
        theirs = transformers.LlamaForCausalLM.from_pretrained(load.folder(LLAMA))
        runs = [trainer(model, **arguments) for model in (of_case(LLAMA), theirs)]
        for run in runs:
            run.train()
        found, expected = ([step["loss"] for step in run.state.log_history if "loss" in step] for run in runs)
        assert len(found) == 3
        assert found == pytest.approx(expected, rel=1e-4)
        assert runs[0].evaluate()["eval_loss"] == pytest.approx(runs[1].evaluate()["eval_loss"], rel=1e-4)

    def test_columns_that_the_base_model_reads_are_kept(self, bert: Any) -> None:
        names = inspect.signature(bert.forward).parameters
        assert {"input_ids", "token_type_ids", "position_ids", "labels"} <= names.keys()
        assert "inputs" not in names
        shared = inspect.signature(ForPooledClassification.forward).parameters
        assert "inputs" in shared, "what families share names no family's inputs"

    def test_saving_takes_transformers_arguments(self, llama: Any, tmp_path: Any) -> None:
        state = {name: value + 1 for name, value in llama.state_dict().items()}
        del state["lm_head.weight"]  # tied: its other name suffices
        llama.save_pretrained(tmp_path / "none", is_main_process=False, state_dict=state)
        assert not (tmp_path / "none").exists()
        llama.save_pretrained(tmp_path, True, state, max_shard_size="20KB", safe_serialization=True)
        loaded = type(llama).from_pretrained(tmp_path)
        assert torch.equal(loaded.model.norm.weight, llama.model.norm.weight + 1)
        assert torch.equal(loaded.lm_head.weight, llama.lm_head.weight + 1)
        halves = {name: value.bfloat16() for name, value in llama.state_dict().items()}
        llama.save_pretrained(tmp_path, state_dict=halves)
        assert type(llama).from_pretrained(tmp_path).dtype == torch.bfloat16

    def test_a_state_dict_that_does_not_fit_is_refused(self, llama: Any, tmp_path: Any) -> None:
        state = {**llama.state_dict(), "stranger": torch.zeros(1), "model.norm.weight": torch.zeros(3)}
        del state["model.layers.1.mlp.up_proj.weight"]
        with pytest.raises(ArgumentError) as error:
            llama.save_pretrained(tmp_path / "new", state_dict=state)
        assert len(error.value.problems) == 3
        assert not (tmp_path / "new").exists()
        with pytest.raises(ArgumentError, match="safe_serialization and format disagree"):
            llama.save_pretrained(tmp_path / "new", safe_serialization=False, format="h5")
        with pytest.raises(ArgumentError, match="pushed to the Hub as safetensors"):
            llama.save_pretrained(tmp_path / "new", safe_serialization=False, push_to_hub=True)
        assert not (tmp_path / "new").exists()
