"""What a run leaves to look at: two CSV files and a plot."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

Row = list[float | str]


class Log:
    """Rows of log.csv: means over the steps since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clear()

    def _clear(self) -> None:
        self._values: list[dict[str, Tensor]] = []
        self._images = 0
        self._start = time.monotonic()

    def add(self, values: dict[str, Tensor], images: int) -> None:
        """Add a step: its loss, what else was measured, and images in all processes.

        The values may be on a device that has not computed them yet: nothing waits for them here.
        """
        self._values.append(values)
        self._images += images

    def column(self, name: str) -> list[float]:
        """Return one of the values of every step since the last row."""
        return torch.stack([row[name] for row in self._values]).tolist() if self._values else []

    def _means(self) -> dict[str, float]:
        means = {name: fmean(self.column(name)) for name in self._values[0]}
        return means | {"images_per_s": self._images / (time.monotonic() - self._start)}

    def note(self) -> str:
        """Return the means so far, for the progress bar."""
        return "  ".join(f"{name} {mean:.4g}" for name, mean in self._means().items())

    def write(self, step: int, rate_factor: float) -> None:
        """Append the means as a row, and begin the next."""
        means = self._means()
        fields = ("step", "rate_factor", *means)
        row: Row = [step, *(round(value, 5) for value in (rate_factor, *means.values()))]
        append_rows(self._path, fields, [row])
        self._clear()


def append_rows(path: Path, fields: tuple[str, ...], rows: list[Row]) -> None:
    """Append to a CSV file, with a header where it is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(fields)
        writer.writerows(rows)


def drop_rows_after(path: Path, step: int) -> None:
    """Remove the rows of steps that a resumed run will take again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in lines[1:] if int(row.partition(",")[0]) <= step]
    path.write_text("".join((*lines[:1], *kept)), encoding="utf-8")


def save_plot(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    target: Path,
    *,
    x: str,
    y: str,
    logarithmic: bool = False,
) -> None:
    """Draw named curves of points, with what the axes are."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xlabel=x, ylabel=y, xscale="log" if logarithmic else "linear", title="validation")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(target, dpi=120)
    plt.close(figure)
