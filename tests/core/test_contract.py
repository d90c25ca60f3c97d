"""What holds core, the backends and the plugins together: signatures, names, and who may import whom."""

import ast
import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import loadstone
from loadstone import hookspecs, plugins
from loadstone.architectures import architectures
from loadstone.architectures import family as types_of
from loadstone.backend.contract import CONTRACT, Backend
from loadstone.errors import ConfigError, PlacementError, PluginError

CORE = Path(loadstone.__file__).parent
OURS = ("torch", "flax", "tensorflow")
FRAMEWORKS = {"torch", "jax", "jaxlib", "flax", "tensorflow", "keras", "tf_keras", "transformers"}
PREFIXES = {"TF", "Flax"}


def path_of(module):
    """Return the file of a module, without importing it."""
    name, *rest = module.split(".")
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations, module
    base = Path(spec.submodule_search_locations[0]).joinpath(*rest)
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def classes(module):
    """Return name -> class definition for a module's own classes."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def methods(cls):
    """Return name -> definition of a class's public methods."""
    found = (node for node in cls.body if isinstance(node, ast.FunctionDef))
    return {node.name: node for node in found if not node.name.startswith("_")}


def parameters(function):
    """Return a definition's parameters in order: name, kind, whether it has a default."""
    a = function.args
    positional = [*a.posonlyargs, *a.args]
    defaults = [False] * (len(positional) - len(a.defaults)) + [True] * len(a.defaults)
    found = [(p.arg, "positional", d) for p, d in zip(positional, defaults, strict=True)]
    found += [(a.vararg.arg, "*", False)] if a.vararg else []
    found += [(p.arg, "keyword", d is not None) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    return found + ([(a.kwarg.arg, "**", False)] if a.kwarg else [])


def backend_class(name):
    module, _, attribute = plugins.backend_record(name).backend.partition(":")
    return classes(module)[attribute]


ABSTRACT = classes("loadstone.backend.contract")["Backend"]


# Signatures


def test_the_contract_has_about_a_dozen_methods():
    assert {
        "build",
        "parameters",
        "put",
        "tie",
        "compute",
        "finish",
        "read",
        "devices",
        "device",
    } <= Backend.__abstractmethods__
    assert len(methods(ABSTRACT)) <= 15
    assert set(methods(ABSTRACT)) == {
        name for name, _ in inspect.getmembers(Backend, inspect.isfunction) if name[0] != "_"
    }


@pytest.mark.parametrize("method", sorted({*Backend.__abstractmethods__, "resize"}))
@pytest.mark.parametrize("name", OURS)
def test_each_backend_has_each_method_as_the_contract_has_it(name, method):
    found = methods(backend_class(name))
    assert method in found
    assert parameters(found[method]) == parameters(methods(ABSTRACT)[method])


@pytest.mark.parametrize("name", OURS)
def test_no_backend_has_a_door_of_its_own(name):
    assert set(methods(backend_class(name))) <= set(methods(ABSTRACT))


def test_each_method_of_the_contract_is_blamed_on_its_plugin():
    assert set(methods(ABSTRACT)) == CONTRACT

    def fails(self, *arguments, **named):
        raise KeyError("somewhere in it")

    made = type("Made", (Backend,), dict.fromkeys(CONTRACT, fails))
    backend = made()
    backend.name = backend.asked = "torch"
    ours = type("Model", (), {"__module__": "loadstone_torch.models.bert"})
    arguments = {"build": [ours], "model_class": [next(architectures())]}
    for name in CONTRACT:
        with pytest.raises(PluginError) as caught:
            getattr(backend, name)(*arguments.get(name, []))
        assert caught.value.what == f"the plugin behind 'backend.torch' fails in {name}()"
        assert "loadstone_torch.plugin of loadstone " in caught.value.where
        assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory."), PlacementError("none")]
)
def test_what_callers_catch_by_its_own_name_stays_as_it_is(error):
    def fails(self, *arguments):
        raise error

    backend = type("Made", (Backend,), dict.fromkeys(CONTRACT, fails))()
    backend.asked = "torch"
    with pytest.raises(type(error)) as caught:
        backend.put()
    assert caught.value is error


@pytest.mark.parametrize("name", OURS)
def test_each_backend_declares_its_name_and_capabilities(name):
    assigned = {
        target.id: node.value
        for node in backend_class(name).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert ast.literal_eval(assigned["name"]) == name
    given = {keyword.arg for keyword in assigned["capabilities"].keywords}
    assert {"alignment", "aliases", "dtypes"} <= given


def test_the_comparison_of_signatures_can_fail():
    source = (
        "class B:\n    def put(self, model, name, tensor): ...\n    def read(self, model, name=None): ..."
    )
    other = methods(ast.parse(source).body[0])
    for name in ("put", "read"):
        assert parameters(other[name]) != parameters(methods(ABSTRACT)[name])


# Models


def families():
    return sorted({architecture.family for architecture in architectures()})


def module_of(name, family):
    """Return the syntax tree of a family's module in a backend; None where it has no such module."""
    file = path_of(f"{plugins.backend_record(name).models}.{family}")
    return ast.parse(file.read_text(encoding="utf-8")) if file.exists() else None


def without_code(name, family):
    """Return task -> the class, without its prefix, that a family's module makes such a head's class from."""
    for node in module_of(name, family).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HEADS":
            rows = zip(node.value.keys, node.value.values, strict=True)
            return {key.value: value.id.removeprefix(plugins.class_prefix_of(name)) for key, value in rows}
    return {}


def added(name, family):
    """Return the arguments of `add_classes` in a family's module as text; None where nothing is added."""
    calls = [node.value for node in module_of(name, family).body if isinstance(node, ast.Expr)]
    found = [call for call in calls if isinstance(call, ast.Call) and call.func.id == "add_classes"]
    return [ast.unparse(part) for part in (*found[0].args, *found[0].keywords)] if found else None


def heads_in(name, family):
    """Return the unprefixed names of a family's model classes in a backend, those that are added to it included."""
    if module_of(name, family) is None:
        return None
    prefix = plugins.class_prefix_of(name)
    defined = {
        found.removeprefix(prefix) for found in classes(f"{plugins.backend_record(name).models}.{family}")
    }
    first, *others = types_of(family)
    known = {head.class_name for a in (first, *others) for head in a.heads}
    if added(name, family) is None:
        return known & defined
    made = {h.task: h.class_name for h in first.heads if h.task in without_code(name, family)}
    held = {h.task for h in first.heads if h.class_name in defined or h.task in made}
    made_after = {head.class_name for other in others for head in other.heads if head.task in held}
    return known & (defined | set(made.values()) | made_after)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("family", families())
def test_a_family_makes_its_classes_from_the_same_heads_in_every_backend(family, name):
    assert without_code(name, family) == without_code("torch", family)
    prefix = plugins.class_prefix_of(name)
    given, architectures, *rest = added(name, family)
    assert given == "globals()" and architectures in ("ARCHITECTURES", f"family({family!r})")
    assert rest == ["HEADS"] * bool(without_code(name, family)) + [f"prefix={prefix!r}"] * bool(prefix)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("family", families())
def test_no_model_class_is_written_out_that_has_no_code_of_its_own(family, name):
    prefix = plugins.class_prefix_of(name)
    heads = {prefix + head.class_name for a in architectures() if a.family == family for head in a.heads}
    written = classes(f"{plugins.backend_record(name).models}.{family}")
    assert [found for found, node in written.items() if found in heads and not node.body[1:]] == []


@pytest.mark.parametrize("family", families())
def test_a_family_has_the_same_classes_in_every_backend_that_has_it(family):
    held = {name: heads_in(name, family) for name in OURS}
    present = {name: heads for name, heads in held.items() if heads is not None}
    assert "torch" in present
    assert all(heads == present["torch"] for heads in present.values()), present


@pytest.mark.parametrize("family", families())
def test_a_family_has_every_class_that_its_architecture_describes(family):
    described = {head.class_name for a in architectures() if a.family == family for head in a.heads}
    assert heads_in("torch", family) == described


def test_class_names_are_unique():
    names = [head.class_name for architecture in architectures() for head in architecture.heads]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("spellings", "said"),
    [
        ({"hidden_size": "width"}, "'hidden_size' stands for 'width', and is a declared key itself"),
        ({"use_cache": "width"}, "'use_cache' stands for 'width', and is a declared key itself"),
        ({"d_model": "widht"}, "'d_model' stands for 'widht', which is not declared"),
    ],
)
def test_a_spelling_that_contradicts_the_keys_is_an_error(spellings, said):
    with pytest.raises(ConfigError) as caught:
        type(
            "OddConfig",
            (loadstone.Config,),
            {
                "__annotations__": {"width": int, "hidden_size": int},
                "__module__": __name__,
                "width": 1,
                "hidden_size": 2,
                "spellings": {**loadstone.Config.spellings, **spellings},
            },
        )
    assert said in caught.value.problems


# Imports


IMPORT_PLUGINS = """
import importlib, json, sys
from loadstone import plugins
before = set(sys.modules)
for claim in plugins.claims():
    importlib.import_module(claim.value)
for name in sys.argv[1].split(","):
    plugins.is_installed(plugins.backend_record(name))
import loadstone.architectures
list(loadstone.architectures.architectures())
print(json.dumps(sorted(sys.modules)))
"""


def test_plugin_modules_and_architectures_import_no_framework():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_PLUGINS, ",".join(OURS)], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert {"loadstone_torch.plugin", "loadstone_flax.plugin", "loadstone_tensorflow.plugin"} <= loaded
    heavy = FRAMEWORKS | {"numpy", "ml_dtypes", "huggingface_hub", "safetensors"}
    assert {name for name in loaded if name.partition(".")[0] in heavy} == set()


def imported(tree):
    """Return the top-level packages that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def trees(folder):
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))}


ORACLE = CORE / "testing" / "oracle"
"""What asks transformers, in a process of its own: nothing of core imports it."""


def test_core_imports_no_framework_and_no_backend():
    packages = FRAMEWORKS | {f"loadstone_{name}" for name in OURS}
    found = {path: names for path, tree in trees(CORE).items() if (names := imported(tree) & packages)}
    assert {path.name for path in found} == {"forward.py", "record.py"}
    assert {path.parent for path in found} == {ORACLE}


def test_testing_imports_neither_a_framework_nor_pytest():
    script = "import json, sys, loadstone.testing; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout)) & (FRAMEWORKS | {"pytest", "_pytest"})


@pytest.mark.parametrize("name", OURS)
def test_a_backend_imports_no_other(name):
    others = {f"loadstone_{other}" for other in OURS if other != name}
    folder = path_of(f"loadstone_{name}").parent
    assert {path: names for path, tree in trees(folder).items() if (names := imported(tree) & others)} == {}


def test_importing_loadstone_imports_nothing_heavy():
    script = "import json, sys, loadstone; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = FRAMEWORKS | {
        "numpy",
        "ml_dtypes",
        "huggingface_hub",
        "safetensors",
        "tqdm",
        "typer",
        "rich",
        "pluggy",
    }
    assert not set(json.loads(done.stdout)) & heavy


# Branches


def literals(node):
    return {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def branches(tree):
    """Yield what a file compares, matches or asks the beginning of: line, and the texts concerned."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            yield node.lineno, literals(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("startswith", "endswith", "removeprefix", "removesuffix", "get"):
                yield node.lineno, literals(node)
        elif isinstance(node, ast.Subscript):
            yield node.lineno, literals(node.slice)


NAMES = {*OURS, "jax", "keras", "pytorch", *PREFIXES}


def test_core_never_branches_on_a_backends_name():
    found = [
        (path.relative_to(CORE).as_posix(), line, texts & NAMES)
        for path, tree in trees(CORE).items()
        for line, texts in branches(tree)
        if texts & NAMES
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'if name == "torch": pass',
        'x = "flax" in names',
        'name.startswith("TF")',
        'table["tensorflow"]',
        "match name:\n    case 'torch': pass",
    ],
)
def test_the_search_for_branches_can_find_one(source):
    assert any(texts & NAMES for _, texts in branches(ast.parse(source)))


# Hooks


def test_hooks_are_few_prefixed_and_told_with_an_example():
    hooks = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "loadstone_spec")}
    assert 0 < len(hooks) <= 8
    for name, hook in hooks.items():
        assert name.startswith("loadstone_") and name.endswith("s")
        documentation = inspect.getdoc(hook)
        assert "Example:" in documentation and "Returns:" in documentation and f"def {name}" in documentation
        assert "Iterable" in str(inspect.signature(hook).return_annotation)


def test_pluggy_is_touched_in_two_modules():
    users = {path.name for path, tree in trees(CORE).items() if "pluggy" in imported(tree)}
    assert users == {"registry.py", "hookspecs.py"}
