"""Arguments and options that several commands share."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vaecodec.limits import Limits


def complete_bundle(incomplete: str) -> list[str]:
    """Return the installed bundles that may be meant; a shell adds folders where none is."""
    from vaecodec.bundle import installed_folders

    return [folder.name for folder in installed_folders() if folder.name.startswith(incomplete)]


def complete_strip(incomplete: str) -> list[str]:
    """Return the lists of kinds of metadata that one, of which the end is missing, may become."""
    from vaecodec.metadata import ALL, KINDS

    before, comma, last = incomplete.rpartition(",")
    rest = [kind for kind in KINDS if kind not in before.split(",")]
    return [f"{before}{comma}{kind}" for kind in (*rest, ALL) if kind.startswith(last)]


def _check_format(suffix: str) -> str:
    if not re.fullmatch(r"\.?\w+", suffix):
        raise typer.BadParameter(f"{suffix!r} is no suffix: write one as png")
    return "." + suffix.removeprefix(".").lower()


Source = Annotated[str, typer.Argument(metavar="IN", help="File to read; - for standard input.")]
Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="IN",
        help="File to read, several, or a folder; - for standard input. After that OUT: a file to "
        "write, or a folder for several; - for standard output. Folders also as s3://bucket/folder.",
    ),
]
Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="OUT", help="OUT: then all others are IN.")
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="SUFFIX",
        callback=_check_format,
        help="Of outputs whose names are derived: png, tif, webp, jpg, ...",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
KeepTimes = Annotated[
    bool | None,
    typer.Option(
        "--keep-times/--no-keep-times",
        show_default=False,
        help="Outputs get the modification times of their inputs; by default those of folders, and "
        "of several files.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No summary and no progress.")]
Json = Annotated[bool, typer.Option("--json", help="The summary as JSON on standard output.")]
Strip = Annotated[
    str,
    typer.Option(
        "--strip",
        metavar="KINDS",
        autocompletion=complete_strip,
        help="Metadata to leave out: exif, icc, xmp, dpi, iptc, text, comment or all.",
    ),
]
BundleName = Annotated[
    str,
    typer.Option(
        "--bundle",
        metavar="NAME|PATH",
        autocompletion=complete_bundle,
        help="Model: an installed one, or a folder.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        min=1,
        help="Refuse larger images; 268,435,456 by default.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Refuse what would take more, as 1500M or 4G; 8G by default.",
    ),
]
_BINARY = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def chosen_limits(max_pixels: int | None, max_memory: str | None) -> Limits:
    """Return the limits that a command was given.

    Raises:
        BadParameter: If a size cannot be read, or a limit cannot be.
    """
    from vaecodec.limits import DEFAULT_LIMITS

    changes: dict[str, int] = {}
    if max_pixels is not None:
        changes["max_pixels"] = max_pixels
    if max_memory is not None:
        changes["max_memory_bytes"] = parse_size(max_memory, "--max-memory")
    try:
        return replace(DEFAULT_LIMITS, **changes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_size(text: str, option: str) -> int:
    """Return the bytes that a size such as 500M or 1.5 GiB means; M is a million, Mi 2^20.

    Raises:
        BadParameter: If it is none; it names the option.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise typer.BadParameter(f"{text} is no size: write one as 500k or 1.5G", param_hint=option)
    number, unit, binary = found.groups()
    size = float(number) * (_BINARY if binary else _DECIMAL)[unit.upper()]
    if size == math.inf:
        raise typer.BadParameter("it is beyond all sizes", param_hint=option)
    return int(size)


def stripped(kinds: str) -> tuple[str, ...]:
    """Return the kinds of metadata that a comma-separated list names.

    Raises:
        BadParameter: If there is no such kind.
    """
    from vaecodec.metadata import kinds_of

    try:
        return kinds_of([name.strip() for name in kinds.split(",") if name.strip()])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--strip") from error


def check_json(target: str, *, as_json: bool) -> None:
    """Refuse two kinds of data on standard output.

    Raises:
        BadParameter: If the output and the summary would both go there.
    """
    if as_json and target == "-":
        raise typer.BadParameter(
            "standard output is taken by the file: name another output", param_hint="--json"
        )


def examples(*lines: str) -> str:
    """Return the end of a command's help: what to type, line by line, none of them wrapped."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def complete_quality(incomplete: str) -> list[str]:
    """Return round qualities that begin so."""
    return [str(value) for value in range(0, 101, 10) if str(value).startswith(incomplete)]
