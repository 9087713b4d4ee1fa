"""Where `vaecodec bench` writes to, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import typer

from vaecodec.cli.paths import STREAM, check_target


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where what goes; None where it was not asked for."""

    report: str | None
    plot: str | None
    sheet: str | None
    html: str | None

    def named(self) -> dict[str, str]:
        """Return those that were asked for, by option."""
        options = ("--json", "--plot", "--sheet", "--html")
        targets = (self.report, self.plot, self.sheet, self.html)
        return {name: target for name, target in zip(options, targets, strict=True) if target}


def check_outputs(outputs: Outputs, images: Sequence[Path], crops: int, *, force: bool) -> None:
    """Refuse outputs that could not be made, before the measuring that this would waste."""
    from vaecodec.bench.plot import PLOT_SUFFIXES, load_matplotlib
    from vaecodec.bench.sheet import SHEET_SUFFIXES

    if outputs.plot is not None:
        if PurePath(outputs.plot).suffix.lower() not in PLOT_SUFFIXES:
            raise typer.BadParameter("name a .png or .svg file", param_hint="--plot")
        load_matplotlib()
    if outputs.sheet is not None:
        suffix = PurePath(outputs.sheet).suffix.lower()
        if suffix not in SHEET_SUFFIXES:
            known = ", ".join(SHEET_SUFFIXES)
            raise typer.BadParameter(f"name a file of {known}", param_hint="--sheet")
        if not crops:
            raise typer.BadParameter("it needs --crops above 0", param_hint="--sheet")
    taken = {path.resolve() for path in images}
    for option, target in outputs.named().items():
        if target == STREAM:
            if option != "--json":
                reason = "name a file: standard output has the table"
                raise typer.BadParameter(reason, param_hint=option)
            continue
        check_target(target, force=force)
        if Path(target).resolve() in taken:
            reason = f"{target} is an image to measure, or named twice"
            raise typer.BadParameter(reason, param_hint=option)
        taken.add(Path(target).resolve())
