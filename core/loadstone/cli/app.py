"""The commands. Each asks the library, then shows what it was told, as a table or as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from loadstone import __version__
from loadstone.checkpoint.formats.names import DEFAULT
from loadstone.cli import views
from loadstone.errors import LoadstoneError

app = typer.Typer(
    name="loadstone",
    help="One checkpoint, every framework. Access tokens come from HF_TOKEN or `hf auth login`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="PATH_OR_ID", help="A folder, a repository on the Hub (org/name), or a GGUF file."
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a repository.")]
Subfolder = Annotated[str, typer.Option(help="The folder below it that holds the checkpoint.")]
Variant = Annotated[str | None, typer.Option(help='Part of the names of the weights, "fp16" say.')]
WeightsFormat = Annotated[
    str | None, typer.Option(help='The format of the weights by name, or "name@distribution".')
]
GgufFile = Annotated[
    str | None, typer.Option(help="The GGUF file of the folder or repository, in place of all else there.")
]
CacheDir = Annotated[Path | None, typer.Option(help="Where downloads are kept.")]
LocalOnly = Annotated[bool, typer.Option("--local-files-only", help="Use the download cache alone.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, 1 for an error of loadstone's or a problem found, 2 for wrong usage.

    Args:
        arguments: The words after `loadstone`; None: those that the process was started with.
    """
    try:
        app(args=arguments, prog_name="loadstone")
    except LoadstoneError as error:
        views.show_error(error)
        sys.exit(1)
    raise AssertionError("a command line exits")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"loadstone {__version__}")
        raise typer.Exit


@app.callback()
def _loadstone(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


@app.command()
def demo(
    backend: Annotated[
        str | None,
        typer.Option(
            help='The framework, or "all"; without it LOADSTONE_BACKEND decides, else the best installed.'
        ),
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help="A checkpoint to load instead of the one that ships with loadstone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Load a small checkpoint, and let it write.

    It ships with loadstone, and so needs no network. A table shows where each byte went.
    """
    from loadstone.cli.demo import ALL, run_demo

    if path is None:
        # So small a model keeps PyTorch's threads waiting for one another.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    with views.waiting("Every framework, one after the other" if backend == ALL else "Loading"):
        found = run_demo(backend, path)
    if as_json:
        _print_json(found.to_dict())
    else:
        views.show_demo(found)
    if found.failed:
        raise typer.Exit(1)


@app.command()
def inspect(
    checkpoint: Checkpoint,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Sum every file too, and compare: SHA-256 of the Hub's or of our save's."
        ),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Show every tensor by itself.")] = False,
    revision: Revision = None,
    subfolder: Subfolder = "",
    variant: Variant = None,
    weights_format: WeightsFormat = None,
    gguf_file: GgufFile = None,
    cache_dir: CacheDir = None,
    local_files_only: LocalOnly = False,
    as_json: Json = False,
) -> None:
    """Show what a checkpoint holds, and what is wrong.

    Every problem is named, and what can still be read is listed; it exits 1 if there is a problem. Of a repository
    only config.json and headers are fetched.
    """
    from loadstone.cli.inspect import inspect as inspect_checkpoint

    found = inspect_checkpoint(
        checkpoint,
        verify=verify,
        variant=variant,
        weights_format=weights_format,
        gguf_file=gguf_file,
        revision=revision,
        subfolder=subfolder,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    if as_json:
        _print_json(found.to_dict())
    else:
        views.show_inspection(found, every=every)
    if found.problems:
        raise typer.Exit(1)


@app.command()
def plan(
    checkpoint: Checkpoint,
    backend: Annotated[str | None, typer.Option(help="The framework, e.g. torch.")] = None,
    task: Annotated[
        str | None, typer.Option(help='What follows AutoModelFor; "" for the base model.')
    ] = None,
    model_class: Annotated[
        str | None,
        typer.Option("--class", help="The model class; without it the one that config.json names."),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help='"auto", "stored" or a dtype such as bfloat16.')] = None,
    device_map: Annotated[
        str | None,
        typer.Option(help='"auto", "balanced", "balanced_low_0", "sequential", "disk" or a device.'),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(help="What each device may hold: 0=8GiB,cpu=16GiB; this machine need not have them."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="The blocks to load, the others are absent: 0:4 for the first four, or 0,3."),
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(help="What moves in a second, as 25GB, or by place: cpu=25GB,disk=3GB.")
    ] = None,
    model_type: Annotated[
        str | None, typer.Option(help="The model type, where config.json does not say it, or in its place.")
    ] = None,
    ignore_adapter: Annotated[
        bool, typer.Option("--ignore-adapter", help="Plan whole weights though an adapter lies beside them.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the checkpoint's own code, whatever it is now.")
    ] = False,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            help="Run its own code if it is this: org/repo@<commit> or sha256:<digest>; may be said again."
        ),
    ] = None,
    prefer_remote_code: Annotated[
        bool, typer.Option("--prefer-remote-code", help="Run it where loadstone has the model type, too.")
    ] = False,
    code_revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the code, where it is another.")
    ] = None,
    strict: Annotated[
        bool | None, typer.Option("--strict/--no-strict", help="Make any surplus tensor an error, or none.")
    ] = None,
    revision: Revision = None,
    subfolder: Subfolder = "",
    variant: Variant = None,
    weights_format: WeightsFormat = None,
    gguf_file: GgufFile = None,
    cache_dir: CacheDir = None,
    local_files_only: LocalOnly = False,
    as_json: Json = False,
) -> None:
    """Show what a load would do with every tensor.

    Nothing but config.json and headers is read, and of a repository nothing else is fetched, but code that you trust.
    """
    from loadstone.load.story import plan as plan_load

    if trust and trust_remote_code:
        raise typer.BadParameter("--trust names what is trusted, and --trust-remote-code trusts everything")

    report = plan_load(
        checkpoint,
        task=task,
        model_class=model_class,
        backend=backend,
        dtype=dtype,
        device_map=None if device_map is None else _as_number(device_map),
        max_memory=None if max_memory is None else _by_place(max_memory),
        layers=None if layers is None else _numbers(layers),
        bandwidth=_by_place(bandwidth) if bandwidth and "=" in bandwidth else bandwidth,
        model_type=model_type,
        trust_remote_code=trust or trust_remote_code,
        prefer_remote_code=prefer_remote_code,
        code_revision=code_revision,
        ignore_adapter=ignore_adapter,
        strict=strict,
        revision=revision,
        subfolder=subfolder,
        variant=variant,
        weights_format=weights_format,
        gguf_file=gguf_file,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    if as_json:
        _print_json(report.to_dict())
    else:
        views.show_report(report)


@app.command()
def convert(
    source: Checkpoint,
    destination: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where; made where absent.")],
    format: Annotated[
        str, typer.Option(help="safetensors, bin, h5, msgpack, gguf-f16, or what a plugin writes.")
    ] = DEFAULT,
    dtype: Annotated[str | None, typer.Option(help="What floats become, e.g. bf16; else they stay.")] = None,
    max_shard_size: Annotated[str, typer.Option(help='Bytes of tensors in a file: "5GB", "500MB".')] = "5GB",
    layout: Annotated[
        str,
        typer.Option(
            help='Of safetensors: "aligned", which every framework maps, or "torch", the library\'s.'
        ),
    ] = "aligned",
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Leave out the texts beside the tensors.")
    ] = False,
    model_type: Annotated[
        str | None, typer.Option(help="The model type, where config.json does not say it.")
    ] = None,
    revision: Revision = None,
    subfolder: Subfolder = "",
    variant: Variant = None,
    weights_format: WeightsFormat = None,
    gguf_file: GgufFile = None,
    cache_dir: CacheDir = None,
    local_files_only: LocalOnly = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint in another format, dtype or division into files.

    Tensors keep their bits, config.json its keys, and tokenizer and other files come along. No framework is needed.
    """
    from loadstone.save.convert import convert as convert_checkpoint

    done = convert_checkpoint(
        source,
        destination,
        format=format,
        dtype=dtype,
        max_shard_size=max_shard_size,
        layout=layout,
        metadata={} if no_metadata else None,
        variant=variant,
        weights_format=weights_format,
        gguf_file=gguf_file,
        model_type=model_type,
        revision=revision,
        subfolder=subfolder,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    if as_json:
        _print_json(done.to_dict())
    else:
        views.show_conversion(done)


@app.command()
def plugins(
    load: Annotated[
        bool,
        typer.Option(
            "--load/--no-load", help="Try every plugin, or go by metadata alone. No framework is imported."
        ),
    ] = True,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Import the frameworks too, and exit 1 if something that is claimed is unusable."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show every plugin, and whether it works.

    What it claims, whose it is, what became of it, and the traceback of one that is broken.
    """
    from loadstone.architectures import model_types
    from loadstone.cli.examine import default_backend, examine

    load = load or strict
    default, why = default_backend() if load else (None, "")
    found = examine(load=load, default=default, build=strict)
    if as_json:
        facts = [one.to_dict() for one in found]
        _print_json({"plugins": facts, "default_backend": default, "model_types": model_types()})
    else:
        views.show_plugins(found, default, why)
    if strict and any(one.problem and one.claim.state != "disabled" for one in found):
        raise typer.Exit(1)


def _as_number(word: str) -> int | str:
    """Return a word, as the number that it is where it is one."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < 20 else word


def _numbers(text: str) -> list[int]:
    """Return the numbers of "0:4" (without the last), "3", or several of these with commas between them."""
    found: list[int] = []
    for part in text.split(","):
        first, colon, end = part.strip().partition(":")
        if not all(word.isascii() and word.isdigit() and len(word) < 7 for word in (first, end or first)):
            raise typer.BadParameter(f"{part!r} is neither a number of a block nor FIRST:END, as in 0:4")
        found += range(int(first), int(end)) if colon else [int(first)]
    return found


def _by_place(text: str) -> dict[int | str, int | str]:
    """Return place -> size from "0=8GiB,cpu=16GiB"."""
    found: dict[int | str, int | str] = {}
    for part in text.split(","):
        place, separator, size = part.strip().partition("=")
        if not (separator and place):
            raise typer.BadParameter(f"{part!r} is not PLACE=SIZE, as in 0=8GiB,cpu=16GiB")
        found[_as_number(place)] = _as_number(size)
    return found


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2).replace("\x7f", "\\u007f"))  # the one control character that JSON leaves
