"""The command line: `vaecodec compress`, `decompress`, `denoise`, `info` and so on.

The one place that prints. Standard output carries data only; summaries, progress and errors go to
standard error. Numpy, Pillow and ONNX Runtime are imported by the commands that need them, when
they run.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

import vaecodec
from vaecodec.cli.bench import bench
from vaecodec.cli.compress import compress
from vaecodec.cli.console import note, one_line, put_text
from vaecodec.cli.decompress import decompress
from vaecodec.cli.denoise import denoise
from vaecodec.cli.device import TRACEBACKS
from vaecodec.cli.info import info
from vaecodec.cli.models import models
from vaecodec.cli.verify import verify
from vaecodec.errors import ExitCode, described, is_debugged
from vaecodec.fileio import unwind_on_signals

# What a shell expects of a process that Ctrl-C ended: 128 and the number of SIGINT.
_INTERRUPTED = 130

app = typer.Typer(
    name="vaecodec",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (compress, decompress, denoise, info, verify, models, bench):
    # Each module ends its command's help with what `EXAMPLES` says.
    app.command(epilog=getattr(sys.modules[_command.__module__], "EXAMPLES", None))(_command)


def main() -> None:
    """Run the command line, and exit with a code of `ExitCode`.

    Ended by a signal it is 128 and the signal's number instead: 130 after Ctrl-C.
    """
    unwind_on_signals()
    told: dict[str, int] = {}  # what a command's options have said that concerns its errors
    try:
        try:
            app(prog_name="vaecodec", obj=told)
        except Exception:
            if told.get("verbosity", 0) >= TRACEBACKS:
                note(traceback.format_exc().rstrip())
            raise
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        message, code = described(error)
        if code == ExitCode.BUG and is_debugged():
            raise
        ended = _signal_code(error)
        if ended is None:
            note(f"vaecodec: error: {one_line(message)}")
        sys.exit(code if ended is None else ended)


def _show_version(wanted: bool) -> None:
    if wanted:
        put_text(f"vaecodec {vaecodec.__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Compress and restore photographs with a variational autoencoder."""


def _signal_code(error: BaseException | None) -> int | None:
    """Return the exit code of a signal that an import has disguised as an error of its own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return _INTERRUPTED
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            return error.code
        error = error.__cause__ or error.__context__
    return None
