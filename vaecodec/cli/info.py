from __future__ import annotations

from typing import Any

from vaecodec.cli.console import about, put_json, put_text
from vaecodec.cli.options import Json, Source, examples

EXAMPLES = examples(
    "vaecodec info photo.vaec",
    "vaecodec info photo.vaec --json",
    "vaecodec info - < photo.vaec",
)


def info(source: Source, as_json: Json = False) -> None:
    """Show what a .vaec file says of itself.

    Every checksum is verified on the way. No network is loaded, and no size is too large.
    """
    from vaecodec.fileio import read_bytes

    data = read_bytes(source)
    with about(source):
        facts = _read_facts(data)
    if as_json:
        put_json({"file": source, **facts})
    else:
        put_text(_describe(source, facts))


def _read_facts(data: bytes) -> dict[str, Any]:
    """Return what `info` shows, under the names that `--json` gives it."""
    from vaecodec.bundle import bundle_name
    from vaecodec.container import ALPHA, LATENTS, MAGIC, unpack
    from vaecodec.limits import Limits
    from vaecodec.rate import quality_of_level

    # Any size that a header can give: of an image that is not decoded, nothing takes memory.
    side = 2**32 - 1
    container = unpack(data, Limits(max_side=side, max_pixels=side**2))
    header = container.header
    chunks = [(chunk.name, len(chunk.payload)) for chunk in container.ancillary]
    for fourcc, payloads in ((LATENTS, container.latents), (ALPHA, container.alpha)):
        if payloads:
            chunks.append((fourcc.decode("ascii"), sum(len(payload) for payload in payloads)))
    major, minor = data[len(MAGIC) : len(MAGIC) + 2]
    return {
        "version": f"{major}.{minor}",
        "width": header.width,
        "height": header.height,
        "mode": header.mode.name,
        "segments": header.segments,
        "bit_depth": header.bit_depth,
        "level": header.level,
        "quality": quality_of_level(header.level),
        "model_id": header.model_id.hex(),
        "bundle": bundle_name(header.model_id),
        "file_bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        "chunks": [{"name": name, "bytes": size} for name, size in chunks],
    }


def _describe(source: str, facts: dict[str, Any]) -> str:
    bundle = facts["bundle"]
    model = f"bundle {bundle}" if bundle else "not installed: decompress needs --bundle"
    chunks = ", ".join(f"{chunk['name']} {chunk['bytes']:,} bytes" for chunk in facts["chunks"])
    return "\n".join(
        (
            source,
            f"  image    {facts['width']}x{facts['height']} {facts['mode']}, "
            f"{facts['bit_depth']} bits per sample",
            f"  file     {facts['file_bytes']:,} bytes, {facts['bpp']:.3f} bpp, "
            f"container version {facts['version']}",
            f"  quality  {facts['quality']:.1f} (level {facts['level']})",
            f"  model    {facts['model_id']} ({model})",
            f"  chunks   {chunks}",
        )
    )
