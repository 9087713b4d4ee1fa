"""The integer frequency tables, made once here so that no runtime computes a probability."""

from __future__ import annotations

import io
import math

import numpy as np

from export.architecture import scale_table
from export.onnx_graph import Array
from vaecodec.tables import FREQUENCY_SUM, load_tables

REACH_DEVIATIONS = 5.0
"""Residuals within this many standard deviations have a symbol of their own."""


def gaussian_frequencies(scale: float) -> Array:
    """Return the table of one scale: residuals -R .. R, then the escape; >= 1, sum 2^24.

    The mass of residual r is that of a Gaussian in [r - 1/2, r + 1/2]. Every symbol first gets 1;
    what rounding down leaves over goes, one each, to the symbols that it took most from.
    """
    reach = math.ceil(REACH_DEVIATIONS * scale) + 1
    inverse = math.sqrt(0.5) / scale
    edges = [math.erfc((r - 0.5) * inverse) for r in range(reach + 2)]
    one_side = [(edges[r] - edges[r + 1]) / 2 for r in range(reach + 1)]
    mass = np.array([*one_side[:0:-1], *one_side, edges[reach + 1]])
    shares = mass * (FREQUENCY_SUM - len(mass))
    frequencies = 1 + np.floor(shares).astype(np.int64)
    left_over = FREQUENCY_SUM - int(frequencies.sum())
    most_lost = np.argsort(np.floor(shares) - shares, kind="stable")
    frequencies[most_lost[:left_over]] += 1
    return frequencies.astype(np.uint32)


def build_tables(z_scale_index: Array) -> bytes:
    """Return the bytes of a `tables.npz`; `vaecodec.tables` says what is in it.

    Args:
        z_scale_index: ``(anchors, Nz)`` uint8.
    """
    scales = scale_table().numpy()
    frequencies = [gaussian_frequencies(float(scale)) for scale in scales[1:]]
    reach = [0, *(len(table) // 2 - 1 for table in frequencies)]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        reach=np.array(reach, np.uint16),
        frequencies=np.concatenate(frequencies),
        scales=scales,
        z_scale_index=z_scale_index,
    )
    data = buffer.getvalue()
    load_tables(data, z_scale_index.shape[1])  # which refuses what no runtime would take
    return data
