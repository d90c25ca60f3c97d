"""Every fault injected into the files or the index of a good checkpoint is caught; the good ones raise no alarm."""

import json
import shutil

import pytest
from checkpoint_files import REAL_ONES, arrays, load, save, shared, write_foreign

from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError
from loadstone.source import resolve

INDEX = "model.safetensors.index.json"
REAL = "llama-tinystories-656k-sharded"
SHARDED = ["ours", "foreign", REAL]


@pytest.fixture(params=SHARDED)
def sharded(request, tmp_path):
    """Return a copy of a good sharded checkpoint."""
    folder = tmp_path / "checkpoint"
    if request.param == "ours":
        save(folder, arrays(), max_shard_size=1200)
    elif request.param == "foreign":
        write_foreign(folder, arrays(), shards=3, config="{}", generation_config=None)
    else:
        shutil.copytree(shared(request.param), folder, copy_function=shutil.copyfile)
        folder.chmod(0o755)
    return folder


def weight_map(folder):
    return json.loads((folder / INDEX).read_text())["weight_map"]


def edit_index(folder, change):
    """Change the parsed index of a checkpoint in place."""
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


def shards_of(folder):
    return sorted(set(weight_map(folder).values()))


def refused(folder, *facts, cls=CheckpointError, **arguments):
    """Assert that a folder is refused with a message that states the facts and is fit to read."""
    with pytest.raises(cls) as caught:
        open_checkpoint(resolve(folder), **arguments)
    message = str(caught.value)
    for fact in (str(folder), "next: ", *facts):
        assert fact in message, message
    assert len(message.splitlines()) <= 15
    return caught.value


@pytest.mark.parametrize("name", REAL_ONES)
def test_real_checkpoints_raise_no_alarm(name):
    index = open_checkpoint(resolve(shared(name)))
    assert len(index) >= 16


def test_good_shards_raise_no_alarm(sharded):
    assert set(open_checkpoint(resolve(sharded)).tensors) == set(weight_map(sharded))


def test_an_index_without_metadata_raises_no_alarm(sharded):
    edit_index(sharded, lambda index: index.pop("metadata"))
    assert len(open_checkpoint(resolve(sharded))) == len(weight_map(sharded))


def test_files_outside_the_index_raise_no_alarm(sharded):
    (sharded / "model-00009-of-00009.safetensors").write_bytes(b"not read")
    (sharded / "adapter_note.txt").write_text("nor this")
    assert len(open_checkpoint(resolve(sharded))) == len(weight_map(sharded))


def test_a_truncated_shard(sharded):
    shard = sharded / shards_of(sharded)[-1]
    size = shard.stat().st_size
    with open(shard, "r+b") as stream:
        stream.truncate(size - 1)
    error = refused(sharded, shard.name, "ends early", f"{size:,} bytes", f"{size - 1:,} bytes")
    assert "key" in str(error.where)


def test_a_shard_cut_inside_its_header(sharded):
    shard = sharded / shards_of(sharded)[0]
    shard.write_bytes(shard.read_bytes()[:50])
    refused(sharded, shard.name, "ends inside its header", "50 bytes")


def test_an_lfs_pointer_in_place_of_a_shard(sharded):
    shard = sharded / shards_of(sharded)[0]
    shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(sharded, shard.name, "Git LFS pointer", "git lfs pull")


def test_an_lfs_pointer_in_place_of_the_index(sharded):
    (sharded / INDEX).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(sharded, INDEX, "Git LFS pointer", "git lfs pull")


def test_an_empty_shard(sharded):
    shard = sharded / shards_of(sharded)[0]
    shard.write_bytes(b"")
    refused(sharded, shard.name, "is empty")


def test_bytes_after_the_last_tensor(sharded):
    shard = sharded / shards_of(sharded)[0]
    shard.write_bytes(shard.read_bytes() + b"x")
    refused(sharded, shard.name, "bytes after its last tensor")


def test_a_header_of_another_length(sharded):
    shard = sharded / shards_of(sharded)[0]
    data = shard.read_bytes()
    shard.write_bytes((int.from_bytes(data[:8], "little") - 8).to_bytes(8, "little") + data[8:])
    refused(sharded, shard.name)


def test_several_damaged_shards_are_named_at_once(sharded):
    first, *_, last = (sharded / name for name in shards_of(sharded))
    first.write_bytes(b"")
    last.write_bytes(last.read_bytes()[:-1])
    error = refused(sharded, first.name, last.name, "is empty", "ends early")
    assert len(error.problems) == 2


def test_an_absent_shard(sharded):
    shard = sharded / shards_of(sharded)[1]
    count = list(weight_map(sharded).values()).count(shard.name)
    shard.unlink()
    error = refused(sharded, shard.name, "is not there", f"places {count:,} tensor")
    assert len(error.problems) == 1


def test_an_index_that_names_an_absent_tensor(sharded):
    shard = shards_of(sharded)[0]
    edit_index(sharded, lambda index: index["weight_map"].update({"model.extra.weight": shard}))
    refused(sharded, "'model.extra.weight': the index places it in " + shard, "lacks it")


def test_a_tensor_dropped_from_the_index(sharded):
    dropped, shard = next(iter(weight_map(sharded).items()))
    edit_index(sharded, lambda index: index["weight_map"].pop(dropped))
    if shard in shards_of(sharded):
        refused(sharded, repr(dropped), shard, "not in the index", "do not belong together")
    else:
        # Its shard held nothing else: the index names a smaller model, which the plan will find wanting.
        assert dropped not in open_checkpoint(resolve(sharded)).tensors


def test_a_tensor_renamed_in_the_index(sharded):
    name, shard = list(weight_map(sharded).items())[-1]

    def rename(index):
        index["weight_map"][name + ".renamed"] = index["weight_map"].pop(name)

    edit_index(sharded, rename)
    error = refused(sharded, repr(name + ".renamed"), repr(name), shard)
    assert len(error.problems) == 2


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "x\0.safetensors"]
)
def test_a_file_name_that_leaves_the_folder(sharded, name):
    (sharded.parent / "x.safetensors").write_bytes((sharded / shards_of(sharded)[0]).read_bytes())
    tensor = next(iter(weight_map(sharded)))
    edit_index(sharded, lambda index: index["weight_map"].update({tensor: name}))
    refused(sharded, repr(name), "is refused", repr(tensor))


def test_a_file_name_that_is_no_safetensors(sharded):
    (sharded / "evil.bin").write_bytes((sharded / shards_of(sharded)[0]).read_bytes())
    tensor = next(iter(weight_map(sharded)))
    edit_index(sharded, lambda index: index["weight_map"].update({tensor: "evil.bin"}))
    refused(sharded, "'evil.bin'", "does not end in .safetensors")


def test_one_tensor_in_two_shards(tmp_path):
    tensors = arrays()
    write_foreign(tmp_path / "a", tensors, shards=3, config="{}", generation_config=None)
    write_foreign(
        tmp_path / "b",
        {**tensors, "model.norm.weight": tensors["model.odd"]},
        shards=1,
        config="",
        generation_config="",
    )
    name = next(shard for name, shard in weight_map(tmp_path / "a").items() if name != "model.norm.weight")
    other = weight_map(tmp_path / "a")["model.norm.weight"]
    twice = dict(list(tensors.items())[:1]) | {"model.norm.weight": tensors["model.norm.weight"]}
    write_foreign(tmp_path / "c", twice, shards=1, config="", generation_config=None)
    (tmp_path / "a" / name).write_bytes((tmp_path / "c" / "model.safetensors").read_bytes())
    refused(tmp_path / "a", "'model.norm.weight' is stored in 2 shards", name, other)


def test_one_tensor_twice_in_the_index(sharded):
    tensor, shard = next(iter(weight_map(sharded).items()))
    other = next(s for s in shards_of(sharded) if s != shard)
    text = (sharded / INDEX).read_text()
    (sharded / INDEX).write_text(
        text.replace('"weight_map": {', f'"weight_map": {{"{tensor}": "{other}",', 1)
    )
    refused(sharded, f"the index names {tensor!r} twice")


def test_two_shards_exchanged(sharded):
    first, second, *_ = (sharded / name for name in shards_of(sharded))
    third = sharded / "third"
    first.rename(third)
    second.rename(first)
    third.rename(second)
    error = refused(sharded, f"{first.name} and {second.name} are exchanged")
    assert len(error.problems) == 1


def test_a_shard_of_another_save_of_the_same_model(tmp_path):
    """Names, shapes and dtypes agree, the values do not: only the generation tells."""
    save(tmp_path / "a", arrays(1), max_shard_size=1200)
    save(tmp_path / "b", arrays(2), max_shard_size=1200)
    shard = shards_of(tmp_path / "a")[0]
    shutil.copyfile(tmp_path / "b" / shard, tmp_path / "a" / shard)
    refused(tmp_path / "a", f"{shard} belongs to another save than the index")


def test_many_faults_are_named_at_once(sharded):
    first, second, *_ = shards_of(sharded)
    (sharded / first).unlink()

    def spoil(index):
        index["weight_map"]["model.a"] = second
        index["weight_map"]["model.b"] = "../x.safetensors"

    edit_index(sharded, spoil)
    error = refused(sharded, INDEX, first, "'model.a'", "'../x.safetensors'")
    assert len(error.problems) == 3


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "none that shards can have"),
        ("[]", "no usable `weight_map`"),
        ("{}", "no usable `weight_map`"),
        ('{"weight_map": ["a"]}', "no usable `weight_map`"),
        ('{"weight_map": {"a": 1}}', "no usable `weight_map`"),
        ('{"weight_map": {}}', "lists no tensor"),
        ('{"weight_map": {"a": "x.safetensors"}, "metadata": [1]}', "`metadata` of a wrong type"),
    ],
)
def test_an_index_that_is_none(sharded, text, fact):
    (sharded / INDEX).write_text(text)
    refused(sharded, INDEX, fact)


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        (
            [],
            [
                "no weights here",
                "model.safetensors or model.safetensors.index.json or pytorch_model",
                "no files",
            ],
        ),
        (["config.json", "vocab.txt"], ["no weights here", "config.json, vocab.txt"]),
        (["pytorch_model-00001-of-00001.bin"], ["no weights here", "pytorch_model-00001-of-00001.bin"]),
        (["consolidated.00.pth"], ["authors' own names"]),
        (["model.onnx"], ["not read yet: ONNX", "model.onnx"]),
        (["a.weights.h5"], ["not read yet: Keras file"]),
        (["some.q4.gguf"], ["there are only GGUF files", "pass gguf_file='some.q4.gguf'"]),
        (["model.onnx", "a.weights.h5"], ["ONNX, Keras file"]),
        (["adapter_config.json", "adapter_model.safetensors"], ["PEFT", "adapter_config.json", "base model"]),
        (
            ["model.fp16.safetensors", "model.int8.safetensors"],
            ["only variants", "fp16, int8", 'variant="fp16"'],
        ),
    ],
)
def test_a_folder_without_weights_that_can_be_read(tmp_path, files, facts):
    for name in files:
        (tmp_path / name).write_text("{}")
    refused(tmp_path, *facts)


def test_a_variant_that_is_not_there(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "model.bf16.safetensors").write_bytes(b"")
    refused(tmp_path, "no weights of the variant 'fp16'", 'variant="bf16"', variant="fp16")


def test_a_pickle_that_is_asked_for(sharded):
    refused(sharded, "use_safetensors= leaves out", INDEX, "leave use_safetensors out", use_safetensors=False)
    assert len(open_checkpoint(resolve(sharded), use_safetensors=True)) == len(weight_map(sharded))


def test_what_we_save_of_real_checkpoints_is_equal(tmp_path):
    from checkpoint_files import array_of

    real = load(shared(REAL))
    tensors = {name: array_of(*stored) for name, stored in real.tensors.items()}
    save(tmp_path / "a", tensors, config=real.config, max_shard_size="500KB")
    assert load(tmp_path / "a").tensors == real.tensors
