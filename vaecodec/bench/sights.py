"""The parts of the page to look at: crops at equal file size, and where the bits went."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from vaecodec.bench.markup import number, percent, table
from vaecodec.bench.pictures import data_uri, heat, ramp_css
from vaecodec.bench.views import CROP_HEIGHT, CROP_WIDTH, ORIGINAL, OURS, Version, View
from vaecodec.bundle import PATCH

_STRENGTH = 65
_MAP_HEIGHT = 380
"""In CSS pixels, so that upright images take no more room than others."""


def crops_section(views: Sequence[View]) -> str:
    """Return a slider for each image, between any two of its versions."""
    if not views:
        return ""
    others = len(views[0].versions) > 2
    title = "Side by side, at equal file size" if others else "Side by side"
    nearest = (
        "\nEvery other codec had the quality whose file comes nearest to the size of ours; not\n"
        "every one goes so low."
        if others
        else ""
    )
    return f"""<section aria-labelledby="crops">
<h2 id="crops">{title}</h2>
<p class="note">From each image the part, of up to {CROP_WIDTH} by {CROP_HEIGHT} pixels, that took
most of our bits; sizes and PSNR are those of the whole image.{nearest}
Drag the divider, or move it with the arrow keys.</p>
{"".join(_crop(index, view) for index, view in enumerate(views))}</section>
"""


def bits_section(views: Sequence[View]) -> str:
    """Return a map for each image of the bits that each place of it took."""
    if not views:
        return ""
    return f"""<section aria-labelledby="bits">
<h2 id="bits">Where the bits went</h2>
<p class="note">What the entropy coder paid for each square of {PATCH} by {PATCH} pixels, its share
of the hyper-latents included. Headers, checksums and alpha are left out.</p>
<div class="maps">
{"".join(_map(index, view) for index, view in enumerate(views))}</div>
</section>
"""


def _crop(index: int, view: View) -> str:
    rows, columns = view.crop.shape
    right = (*view.versions[2:], view.versions[0])[0]
    sources = "\n".join(
        f'<figure><img data-version="{escape(version.codec)}" data-tag="{escape(_tag(version))}" '
        f'width="{columns}" height="{rows}" alt="{escape(_alt(view, version))}" '
        f'src="{data_uri(version.crop)}"><figcaption>{escape(_tag(version))}</figcaption></figure>'
        for version in view.versions
    )
    name = escape(view.image)
    return f"""<article class="view" data-view="{name}">
<h3>{name}</h3>
<div>
<div data-live hidden>
<div class="stage" style="--split: 50%; aspect-ratio: {columns} / {rows}">
<img class="right" alt=""><img class="left" alt="">
<span class="tag"></span><span class="tag"></span><i class="rule"></i>
<input type="range" min="0" max="100" step="1" value="50" aria-label="Divider, {name}">
</div>
<div class="sides">
{_choice(index, "left", view, OURS)}
{_choice(index, "right", view, right.codec)}
</div>
</div>
<div data-sources>
{sources}
</div>
</div>
{_sizes(view)}</article>
"""


def _choice(index: int, side: str, view: View, chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(v.codec)}"{" selected" * (v.codec == chosen)}>'
        f"{escape(v.title)}</option>"
        for v in view.versions
    )
    label = f'<label for="{side}{index}">{side.capitalize()}</label>'
    return f'<div>{label} <select id="{side}{index}">{options}</select></div>'


def _sizes(view: View) -> str:
    """Return the figures of every version, and by how much files are larger than ours."""
    ours = view.versions[1].file_bytes
    rows: list[tuple[str, list[str]]] = []
    for version in view.versions:
        if version.codec == ORIGINAL:
            continue
        larger = "" if version.codec == OURS else percent(100 * (version.file_bytes / ours - 1))
        figures = [f"{version.file_bytes:,}", larger, number(version.psnr_db, 2)]
        rows.append(("ours" * (version.codec == OURS), [version.title, *figures]))
    caption = f"{view.width} by {view.height} pixels, ours at {number(view.versions[1].bpp, 3)} bpp"
    return table(("Codec", "Bytes", "to ours", "PSNR, dB"), rows, caption=caption)


def _tag(version: Version) -> str:
    if version.codec == ORIGINAL:
        return version.title
    return f"{version.title}, {version.file_bytes:,} bytes"


def _alt(view: View, version: Version) -> str:
    if version.codec == ORIGINAL:
        return f"Part of {view.image}, as it was"
    return f"Part of {view.image} through {version.title} at {version.bpp:.3f} bits per pixel"


def _map(index: int, view: View) -> str:
    per_pixel = view.bits / PATCH**2
    top = float(per_pixel.max())
    rows, columns = PATCH * per_pixel.shape[0], PATCH * per_pixel.shape[1]
    name = escape(view.image)
    mean = number(view.versions[1].bpp, 3)
    widest = _MAP_HEIGHT * view.width / view.height
    return f"""<figure data-map="{name}">
<h3>{name}</h3>
<div class="map" style="--strength: {_STRENGTH / 100}; --widest: {widest:.0f}px; \
aspect-ratio: {view.width} / {view.height}">
<img alt="{name}, in grey" src="{data_uri(view.whole, lossless=False)}">
<img class="heat" style="width: {100 * columns / view.width:.3f}%; \
height: {100 * rows / view.height:.3f}%" alt="Map of the bits of {name}: from 0 to {top:.2f} bits \
per pixel, {mean} over the whole file" src="{data_uri(heat(per_pixel, top))}">
</div>
<figcaption>
<div class="scale"><span>0</span><i style="background: {ramp_css()}"></i>\
<span>{top:.2f} bits per pixel</span></div>
{mean} over the whole file, of which the map shows {100 * view.bits_share:.1f}%.
<div class="strength"><label for="strength{index}">Strength</label>
<input id="strength{index}" type="range" min="0" max="100" step="5" value="{_STRENGTH}"></div>
</figcaption>
</figure>
"""
