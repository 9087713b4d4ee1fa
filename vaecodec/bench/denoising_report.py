"""What came of denoising a folder of images, and its table."""

from __future__ import annotations

from dataclasses import dataclass

from vaecodec.bench.results import PeerInfo, Skipped


@dataclass(frozen=True, slots=True)
class DenoisedRow:
    """What one method made of one image, or of several in the mean.

    Attributes:
        image: Its name; empty for a mean.
        damage: Its name.
        method: Its name; "damaged" is the image as it was given to all of them.
        psnr_db: Over all samples of RGB.
        ssim: Of Wang et al. 2004, the mean over the channels of RGB.
        seconds_per_megapixel: What it took; None of the damaged image.
    """

    image: str
    damage: str
    method: str
    psnr_db: float
    ssim: float
    seconds_per_megapixel: float | None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file, or the mean of several.

    Attributes:
        image: Its name; empty for a mean.
        damage: Its name.
        kind: What it was made of: "plain" is the damaged image as it is, "denoised" the same with
            the noise taken out, "original" the image before it was damaged.
        quality: 0 to 100.
        bpp: Bits of the file per pixel.
        psnr_db: Of the opened file to the image before it was damaged.
    """

    image: str
    damage: str
    kind: str
    quality: float
    bpp: float
    psnr_db: float


@dataclass(frozen=True, slots=True)
class DenoisingReport:
    """What came of a folder.

    Attributes:
        bundle: Its name.
        model_id: Its id, in hexadecimal.
        seed: Of the noise.
        methods: The other denoisers.
        means: Over the images, by damage and method.
        files: Over the images, by damage, kind and quality.
        images: Every image by itself.
        image_files: Every file by itself.
        skipped: The images that were left out.
        machine: What the times depend on.
    """

    bundle: str
    model_id: str
    seed: int
    methods: tuple[PeerInfo, ...]
    means: tuple[DenoisedRow, ...]
    files: tuple[FileRow, ...]
    images: tuple[DenoisedRow, ...]
    image_files: tuple[FileRow, ...]
    skipped: tuple[Skipped, ...]
    machine: str

    @property
    def image_count(self) -> int:
        """How many images were measured."""
        return len({row.image for row in self.images})


def denoising_table(report: DenoisingReport) -> str:
    """Return all means, a line for each."""
    width = max(len(row.method) for row in report.means)
    name = max(len(row.damage) for row in report.means)
    lines = [
        f"{report.bundle} ({report.model_id}), means over {report.image_count} images, noise of "
        f"seed {report.seed}",
        *([f"Measured on {report.machine}"] if report.machine else []),
        *(f"{info.title} ({info.library}): {info.settings}" for info in report.methods),
        f"{'damage':<{name}} {'method':<{width}} {'psnr_db':>8} {'ssim':>7} {'s_per_MP':>9}",
    ]
    lines += [row_text(row, name, width) for row in report.means]
    if report.files:
        lines += ["", f"{'damage':<{name}} {'file':<8} {'quality':>7} {'bpp':>8} {'psnr_db':>8}"]
        lines += [row_text(row, name, width) for row in report.files]
    return "\n".join(lines)


def row_text(row: DenoisedRow | FileRow, name: int, width: int) -> str:
    """Return one row as a line.

    Args:
        row: what it tells.
        name: columns for the name of the damage.
        width: columns for the name of the method.
    """
    if isinstance(row, FileRow):
        return (
            f"{row.damage:<{name}} {row.kind:<8} {row.quality:7.1f} {row.bpp:8.4f} "
            f"{row.psnr_db:8.3f}"
        )
    seconds = row.seconds_per_megapixel
    return (
        f"{row.damage:<{name}} {row.method:<{width}} {row.psnr_db:8.3f} {row.ssim:7.4f} "
        f"{'-' if seconds is None else f'{seconds:.2f}':>9}"
    )
