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
BundleName = Annotated[
    str, typer.Option("--bundle", metavar="NAME|PATH", help="Model: an installed one, or a folder.")
]


def check_json(target: str, *, as_json: bool) -> None:
    """Refuse two kinds of data on standard output.

    Raises:
        BadParameter: If the output and the summary would both go there.
    """
    if as_json and target == "-":
        raise typer.BadParameter(
            "standard output is taken by the file: name another output", param_hint="--json"
        )
