from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from vaecodec.cli.console import note, put_json, put_text
from vaecodec.cli.options import complete_bundle, examples

EXAMPLES = examples(
    "vaecodec models",
    "vaecodec models --json",
    "vaecodec models base                      # its model card",
)


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|PATH",
            autocompletion=complete_bundle,
            help="Show the model card of this one.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object for each model, one a line.")
    ] = False,
) -> None:
    """List the models that are installed, or show the card of one.

    Every file of a model is checked on the way: one that is broken is listed with what is wrong.
    """
    from vaecodec.bundle import find_bundle, installed_folders

    if name is not None and not as_json:
        put_text(_printable(find_bundle(name).card()))
        return
    folders = installed_folders() if name is None else [find_bundle(name).path]
    facts = [_facts(folder) for folder in folders]
    if as_json:
        for fact in facts:
            put_json(fact)
    elif facts:
        put_text(_table(facts))
    else:
        note("no models are installed: install the package again, or use --bundle PATH")


def _facts(folder: Path) -> dict[str, Any]:
    """Return what a bundle says of itself, under the names that `--json` gives it."""
    from vaecodec.bundle import find_bundle
    from vaecodec.errors import ModelError

    facts: dict[str, Any] = dict.fromkeys(
        (
            "name",
            "path",
            "version",
            "model_id",
            "size_bytes",
            "lmbda_min",
            "lmbda_max",
            "encode_kmac",
            "decode_kmac",
            "denoise_kmac",
            "last_run_hours",
            "last_run_steps",
            "licence",
            "error",
        )
    )
    facts |= {"name": folder.name, "path": str(folder)}
    try:
        bundle = find_bundle(folder)
        size = sum(len(bundle.read(file)) for file in bundle.files)
    except ModelError as error:
        return facts | {"error": str(error)}
    architecture, training, cost = (
        _mapping(bundle.manifest.get(key)) for key in ("architecture", "training", "kmac_per_pixel")
    )
    return facts | {
        "version": bundle.version,
        "model_id": bundle.model_id.hex(),
        "size_bytes": size,
        "lmbda_min": _number(architecture.get("lmbda_min")),
        "lmbda_max": _number(architecture.get("lmbda_max")),
        "encode_kmac": _number(cost.get("encoding")),
        "decode_kmac": _number(cost.get("decoding")),
        "denoise_kmac": _sum(cost, ("denoising_analysis", "synthesis", "refinement")),
        "last_run_hours": _number(training.get("hours")),
        "last_run_steps": _number(training.get("steps")),
        "licence": _line(bundle.manifest.get("licence")),
    }


def _table(models: list[dict[str, Any]]) -> str:
    """Return the facts as aligned plain text, and below it which models are broken."""
    rows = [
        (
            *("name", "version", "model id", "MB", "lmbda"),
            *("kMAC/px", "to denoise", "last run, h", "licence"),
        )
    ]
    rows += [_row(model) for model in models if not model["error"]]
    # A column in which no model has anything is left out.
    columns = [
        column for column in zip(*rows, strict=True) if len(rows) == 1 or set(column[1:]) != {""}
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
    broken = [f"{model['name']}: broken: {model['error']}" for model in models if model["error"]]
    return "\n".join((lines if len(rows) > 1 else []) + broken)


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    return (
        model["name"],
        model["version"],
        model["model_id"],
        f"{model['size_bytes'] / 1e6:.1f}",
        _joined(model["lmbda_min"], model["lmbda_max"], " to "),
        _joined(model["encode_kmac"], model["decode_kmac"], " + "),
        "" if model["denoise_kmac"] is None else f"{model['denoise_kmac']:g}",
        "" if model["last_run_hours"] is None else f"{model['last_run_hours']:g}",
        model["licence"] or "",
    )


def _joined(first: float | None, second: float | None, between: str) -> str:
    return "" if first is None or second is None else f"{first:g}{between}{second:g}"


# A manifest may be anybody's: what it says beyond what the runtime uses is shown if it can be.
_UNLIKELY = 1e15


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _UNLIKELY else None


def _sum(values: dict[str, Any], names: tuple[str, ...]) -> float | None:
    """Return the sum of some numbers; None if one is missing."""
    numbers = [_number(values.get(name)) for name in names]
    known = [number for number in numbers if number is not None]
    return round(sum(known), 1) if len(known) == len(names) else None


def _line(value: object) -> str | None:
    return value if isinstance(value, str) and value.isprintable() else None


def _printable(text: str) -> str:
    """Return text without what would steer a terminal."""
    return "".join(char for char in text.rstrip() if char.isprintable() or char in "\n\t")
