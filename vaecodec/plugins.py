"""Image formats for which Pillow needs a plugin, loaded when a file of theirs comes."""

from __future__ import annotations

import importlib
from typing import Any

from vaecodec.errors import RuntimeUnavailableError

# Brands of ISO/IEC 23008-12 that mean HEIC, and the two beginnings of ISO/IEC 18181-2.
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"})
_JXL_BEGINNINGS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")


def load_heif() -> Any:
    """Register pillow-heif, and return it; ImportError where it is not installed."""
    plugin = importlib.import_module("pillow_heif")
    plugin.register_heif_opener()
    return plugin


def load_jxl() -> Any:
    """Register pillow-jxl-plugin, and return it; ImportError where it is not installed."""
    return importlib.import_module("pillow_jxl")  # which registers itself


_PLUGINS = {
    "HEIC": ("pillow-heif", load_heif),
    "JPEG XL": ("pillow-jxl-plugin", load_jxl),
}


def load_for(data: bytes) -> bool:
    """Load the plugin for a file that Pillow alone does not know; tell whether there is one.

    Raises:
        RuntimeUnavailableError: It is not installed.
    """
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        name = "HEIC"
    elif data.startswith(_JXL_BEGINNINGS):
        name = "JPEG XL"
    else:
        return False
    package, load = _PLUGINS[name]
    try:
        load()
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{name} images need {package}, which is not installed", f"pip install {package}"
        ) from error
    return True
