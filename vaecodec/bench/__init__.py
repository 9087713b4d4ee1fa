"""Measure our codec, and others beside it, on a folder of images: rate, fidelity and time.

    folder      which images                  measuring   every image, codec and quality
    peers       other codecs: pillow_peers    perceptual  MS-SSIM and SSIMULACRA 2
                and bundle_peers
    results     rows and the report           means       of rows, and their curves
    gains       bits against the others       timing      every stage, size by size
    bits        what each place costs         views       crops at equal file size
    throughput  of the whole machine          mosaic      photographs of any size
    text plot   for terminals and papers      html        one page, made of series, chart,
    sheet                                                 sights, method, markup, pictures

Everything goes through real bytes: an image is encoded to a whole file, and that file is decoded.
Nothing here prints; `asdict` turns every result into plain values.
"""

from vaecodec.bench.bundle_peers import DEFAULT_QUALITIES
from vaecodec.bench.folder import find_images, load_image
from vaecodec.bench.gains import compare_at_scores, compare_peers
from vaecodec.bench.means import (
    curve_of,
    ms_ssim_db,
    summarise,
    summarise_peers,
)
from vaecodec.bench.measuring import (
    Measured,
    measure,
    measure_folder,
    unfit_images,
)
from vaecodec.bench.results import (
    METRICS,
    ImageRow,
    Metric,
    PeerInfo,
    PeerMean,
    PeerRow,
    QualityRow,
    Report,
    ScoreGain,
    SizeRow,
    Skipped,
    Speed,
    Throughput,
    Timing,
)
from vaecodec.bench.throughput import throughput
from vaecodec.bench.timing import speed

__all__ = [
    "DEFAULT_QUALITIES",
    "METRICS",
    "ImageRow",
    "Measured",
    "Metric",
    "PeerInfo",
    "PeerMean",
    "PeerRow",
    "QualityRow",
    "Report",
    "ScoreGain",
    "SizeRow",
    "Skipped",
    "Speed",
    "Throughput",
    "Timing",
    "compare_at_scores",
    "compare_peers",
    "curve_of",
    "find_images",
    "load_image",
    "measure",
    "measure_folder",
    "ms_ssim_db",
    "speed",
    "summarise",
    "summarise_peers",
    "throughput",
    "unfit_images",
]
