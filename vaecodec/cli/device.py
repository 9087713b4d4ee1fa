"""Where the networks run, and what a command tells of its run: `--device` and `-v`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.models import OptionInfo

from vaecodec.cli.console import note

if TYPE_CHECKING:
    from vaecodec.bundle import Bundle
    from vaecodec.trace import Trace

# As in `vaecodec.runtime`, whose import would cost what a command may not need.
DEVICES = ("cpu", "cuda")
TRACEBACKS = 2
"""So often given, `-v` shows where errors come from, too."""


def _check_device(device: str) -> str:
    if device not in DEVICES:
        raise typer.BadParameter(f"{device} is none of {', '.join(DEVICES)}")
    return device


def complete_device(incomplete: str) -> list[str]:
    """Return the devices that begin so."""
    return [device for device in DEVICES if device.startswith(incomplete)]


def _remember(ctx: typer.Context, verbosity: int) -> int:
    """Tell `main`, which shows errors, how much to show."""
    told = cast("dict[str, int] | None", ctx.find_object(dict))
    if told is not None:
        told["verbosity"] = verbosity
    return verbosity


Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="cpu|cuda",
        callback=_check_device,
        autocompletion=complete_device,
        help="Where the networks run.",
    ),
]


def verbose_option(shows: str) -> OptionInfo:
    """Return `-v`, which shows something, and at `-vv` what every command shows then."""
    return typer.Option(
        "-v",
        "--verbose",
        count=True,
        show_default=False,
        callback=_remember,
        help=f"Show {shows}; -vv also model, device and tracebacks.",
    )


Verbose = Annotated[int, verbose_option("the seconds of each stage")]


def tell_setup(bundle: Bundle, device: str, verbosity: int, threads: int | None = None) -> None:
    """Say, at `-vv`, which model runs where.

    Args:
        bundle: What is going to be loaded.
        device: "cpu" or "cuda".
        verbosity: How often `-v` was given.
        threads: Threads of one operator; None for every core.
    """
    if verbosity < TRACEBACKS:
        return
    from vaecodec.runtime import PROVIDERS, load_onnxruntime

    version = load_onnxruntime(device).__version__
    note(f"  bundle {bundle.name} {bundle.version}, {bundle.model_id.hex()}, in {bundle.path}")
    prior = PROVIDERS["cpu"]
    if device != "cpu":
        prior += f" (to read, on {PROVIDERS[device]} where that is exact)"
    note(
        f"  ONNX Runtime {version}, transforms on {PROVIDERS[device]}, prior on {prior}, "
        f"threads: {threads or f'as many as cores ({os.cpu_count()})'}"
    )


def tell_times(trace: Trace, verbosity: int) -> None:
    """Say, at `-v`, how long each stage took."""
    if verbosity and trace.seconds:
        stages = (f"{name} {seconds:.3f} s" for name, seconds in trace.seconds.items())
        note("  " + ", ".join(stages))
