"""What a run of the bench measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from vaecodec.curves import Comparison


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure of fidelity.

    Attributes:
        name: As the command line takes it.
        title: As tables and plots show it.
        unit: Of its values in tables and plots; empty where they have none.
    """

    name: str
    title: str
    unit: str


PSNR = Metric("psnr", "PSNR", "dB")
MS_SSIM = Metric("ms-ssim", "MS-SSIM", "dB")
SSIMULACRA2 = Metric("ssimulacra2", "SSIMULACRA 2", "")
METRICS = {metric.name: metric for metric in (PSNR, MS_SSIM, SSIMULACRA2)}


class Judged(Protocol):
    """Any row: of ours or of another codec, of an image or a mean."""

    @property
    def quality(self) -> float:
        """On the codec's own scale."""
        ...

    @property
    def encode_s(self) -> float:
        """From an image in memory to bytes."""
        ...

    @property
    def decode_s(self) -> float:
        """From bytes to an image in memory."""
        ...

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        ...

    @property
    def psnr_db(self) -> float:
        """Over the samples of all channels."""
        ...

    @property
    def ms_ssim(self) -> float | None:
        """0 to 1; None where it was not measured."""
        ...

    @property
    def ssimulacra2(self) -> float | None:
        """100 where nothing can be seen, and below zero at worst; None as above."""
        ...


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image at one quality.

    Attributes:
        image: The file's name.
        quality: As given.
        width: In pixels.
        height: In pixels.
        file_bytes: Of the whole `.vaec` file, without the image's metadata.
        bpp: The same, per pixel.
        psnr_db: Over the colours of what is not transparent, after rounding to samples.
        encode_s: From an image in memory to bytes, without the estimate of the rate.
        decode_s: From bytes to an image in memory.
        estimate_error_percent: By how much the file is larger than the model's own estimate.
        ms_ssim: 0 to 1, where it was measured.
        ssimulacra2: Up to 100, where it was measured.
    """

    image: str
    quality: float
    width: int
    height: int
    file_bytes: int
    bpp: float
    psnr_db: float
    encode_s: float
    decode_s: float
    estimate_error_percent: float
    ms_ssim: float | None = None
    ssimulacra2: float | None = None

    @property
    def codec(self) -> str:
        """Our name, where a `PeerRow` has the other's."""
        return "vaecodec"


@dataclass(frozen=True, slots=True)
class QualityRow:
    """Means over all images at one quality; each image counts the same."""

    quality: float
    bpp: float
    psnr_db: float
    encode_s: float
    decode_s: float
    estimate_error_percent: float
    ms_ssim: float | None = None
    ssimulacra2: float | None = None


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One image through another codec at one of its qualities; fields as in `ImageRow`.

    Attributes:
        codec: Its name.
        quality: On the codec's own scale.
    """

    codec: str
    image: str
    quality: float
    width: int
    height: int
    file_bytes: int
    bpp: float
    psnr_db: float
    encode_s: float
    decode_s: float
    ms_ssim: float | None = None
    ssimulacra2: float | None = None


@dataclass(frozen=True, slots=True)
class PeerMean:
    """Means over all images of another codec at one quality; each image counts the same."""

    codec: str
    quality: float
    bpp: float
    psnr_db: float
    encode_s: float
    decode_s: float
    ms_ssim: float | None = None
    ssimulacra2: float | None = None


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What another codec is.

    Attributes:
        name: As the command line takes it.
        title: As tables and plots show it.
        library: What codes and decodes, with its version.
        settings: How it was set, and what its quality means.
    """

    name: str
    title: str
    library: str
    settings: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image that was left out, and why."""

    image: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScoreGain:
    """Bits of ours against another codec's at one SSIMULACRA 2 score.

    Attributes:
        codec: The other, which 0% stands for.
        score: The score that both have.
        percent: How much higher our rate is; None where either curve does not reach the score.
    """

    codec: str
    score: float
    percent: float | None


TRANSFORMS = {"encode": "analysis", "decode": "synthesis"}
"""The stage of `Trace` that is most of a direction."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One direction on one image, in a process of its own: medians over repeated runs.

    Attributes:
        cold_s: The first run, from file to file, with the library and the networks to load.
        file_s: From file to file; images are PNG files, of compression level 1 where written.
        memory_s: From an image in memory to bytes, or from bytes to an array in memory.
        stages: Seconds by stage: "read" and "write" of files, those of `Trace`, and the "rest".
        ceiling_share: What the transform reaches of `Speed.convolution_rate`, 0 to 1: both in their
            fastest run, so that what else the machine does counts for neither.
        peak_bytes: Memory of the process at its peak, where the system tells.
        fastest: Seconds of each stage, the least of all runs.
    """

    cold_s: float
    file_s: float
    memory_s: float
    stages: dict[str, float]
    ceiling_share: float | None = None
    peak_bytes: int | None = None
    fastest: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class SizeRow:
    """Both directions on an image of one size.

    Attributes:
        width: In pixels.
        height: In pixels.
        repeats: Runs of each direction, after the first.
        encode: From PNG to `.vaec`.
        decode: And back.
    """

    width: int
    height: int
    repeats: int
    encode: Timing
    decode: Timing


@dataclass(frozen=True, slots=True)
class Throughput:
    """What several processes code at a time, in memory.

    Attributes:
        width: Of every image, in pixels.
        height: In pixels.
        processes: How many.
        threads: Of each.
        encode: Megapixels per second of all together.
        decode: The same.
    """

    width: int
    height: int
    processes: int
    threads: int
    encode: float
    decode: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What both directions take, size by size, and what this machine could do.

    Attributes:
        device: Of the transforms.
        quality: As given.
        convolution_rate: Multiply-accumulates per second of dense 3x3 convolutions in float32, by
            the same runtime in the same run.
        sizes: In the order asked for.
        throughput: Of the whole machine, where it was asked for.
    """

    device: str
    quality: float
    convolution_rate: float
    sizes: tuple[SizeRow, ...]
    throughput: Throughput | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run measured.

    Attributes:
        bundle: Name of the bundle.
        model_id: Its id, in hexadecimal.
        qualities: Means, by ascending quality.
        images: What they are the means of.
        comparisons: BD-rates against published curves, in the order asked for.
        speed: Where it was asked for.
        metrics: Names of the fidelities that were measured.
        codecs: The other codecs, in the order asked for.
        peers: Their means, codec by codec, by ascending quality.
        peer_images: What those are the means of.
        gains: BD-rates of ours against each of them, metric by metric.
        score_gains: Bits of ours against each of them at fixed scores, codec by codec; none where
            SSIMULACRA 2 was not measured.
        skipped: Images that were left out.
        machine: What the times depend on.
    """

    bundle: str
    model_id: str
    qualities: tuple[QualityRow, ...]
    images: tuple[ImageRow, ...]
    comparisons: tuple[Comparison, ...] = ()
    speed: Speed | None = None
    metrics: tuple[str, ...] = (PSNR.name,)
    codecs: tuple[PeerInfo, ...] = ()
    peers: tuple[PeerMean, ...] = ()
    peer_images: tuple[PeerRow, ...] = ()
    gains: tuple[Comparison, ...] = ()
    score_gains: tuple[ScoreGain, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    machine: str = ""

    @property
    def image_count(self) -> int:
        """How many images the means are over."""
        return len({row.image for row in self.images})
