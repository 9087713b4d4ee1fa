"""What a run leaves to look at: two CSV files and a plot."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from statistics import fmean

import torch

from export.objective import RateDistortion

TRAINING_FIELDS = ("step", "rate_factor", "loss", "bpp", "psnr_db", "gradient_norm", "images_per_s")
VALIDATION_FIELDS = ("step", "anchor", "bpp", "psnr_db")


class Log:
    """Rows of log.csv: means over the steps since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clear()

    def _clear(self) -> None:
        self._values: list[tuple[float, float, float, float]] = []
        self._images = 0
        self._start = time.monotonic()

    def add(self, loss: float, measured: RateDistortion, norm: float, images: int) -> None:
        """Add a step: its loss, rate and distortion, gradient norm, and images in all processes."""
        psnr = 10 * torch.log10(255**2 / measured.mse.detach())
        bpp = measured.bpp.detach()
        self._values.append((loss, float(bpp.mean()), float(psnr.mean()), norm))
        self._images += images

    def _means(self) -> list[float]:
        speed = self._images / (time.monotonic() - self._start)
        return [*(fmean(column) for column in zip(*self._values, strict=True)), speed]

    def note(self) -> str:
        """Return the means so far, for the progress bar."""
        _, bpp, psnr, _, speed = self._means()
        return f"{bpp:.3f} bpp  {psnr:.2f} dB  {speed:.1f} images/s"

    def write(self, step: int, rate_factor: float) -> None:
        """Append the means as a row, and begin the next."""
        row = [step, *(round(value, 5) for value in (rate_factor, *self._means()))]
        append_rows(self._path, TRAINING_FIELDS, [row])
        self._clear()


def append_rows(path: Path, fields: tuple[str, ...], rows: list[list[float]]) -> None:
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


def plot(validation: Path, target: Path) -> None:
    """Draw the curves of the first, the middle and the last validation."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with validation.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = sorted({int(row["step"]) for row in rows})
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]}):
        points = [(float(r["bpp"]), float(r["psnr_db"])) for r in rows if int(r["step"]) == step]
        axes.plot(*zip(*points, strict=True), marker="o", label=f"step {step:,}")
    axes.set(xlabel="bits per pixel", ylabel="PSNR (dB)", xscale="log", title="validation")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(target, dpi=120)
    plt.close(figure)
