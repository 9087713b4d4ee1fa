"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Source = Annotated[str, typer.Argument(metavar="IN", help="File to read; - for standard input.")]
Target = Annotated[
    str | None, typer.Argument(metavar="OUT", help="File to write; - for standard output.")
]
Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="OUT", help="The same as OUT.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No summary and no progress.")]
Json = Annotated[bool, typer.Option("--json", help="The summary as JSON on standard output.")]
Strip = Annotated[
    str,
    typer.Option(
        "--strip", metavar="KINDS", help="Metadata to leave out: exif, icc, xmp, dpi or all."
    ),
]
BundleName = Annotated[
    str, typer.Option("--bundle", metavar="NAME|PATH", help="Model: an installed one, or a folder.")
]


def stripped(kinds: str) -> tuple[str, ...]:
    """Return the kinds of metadata that a comma-separated list names.

    Raises:
        BadParameter: If there is no such kind.
    """
    from vaecodec.metadata import KINDS

    names = tuple(name.strip() for name in kinds.split(",") if name.strip())
    if "all" in names:
        return KINDS
    for name in names:
        if name not in KINDS:
            known = ", ".join((*KINDS, "all"))
            raise typer.BadParameter(f"{name} is none of {known}", param_hint="--strip")
    return names


def check_json(target: str, *, as_json: bool) -> None:
    """Refuse two kinds of data on standard output.

    Raises:
        BadParameter: If the output and the summary would both go there.
    """
    if as_json and target == "-":
        raise typer.BadParameter(
            "standard output is taken by the file: name another output", param_hint="--json"
        )
