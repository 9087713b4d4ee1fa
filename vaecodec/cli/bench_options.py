"""What the options of `vaecodec bench` mean, checked before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from vaecodec.bench.denoising import Damage
    from vaecodec.bench.denoising_peers import Method
    from vaecodec.bench.peers import Peer
    from vaecodec.curves import Curves


def parse_qualities(text: str | None) -> list[float]:
    """Return the qualities of a list such as "10,50,90"; none where none was given."""
    from vaecodec.rate import level_of_quality

    if text is None:
        return []
    try:
        qualities = [float(part) for part in _parts(text)]
        for quality in qualities:
            level_of_quality(quality)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--qualities") from error
    if not qualities:
        raise typer.BadParameter("the list is empty", param_hint="--qualities")
    return qualities


def parse_metrics(text: str | None) -> list[str]:
    """Return the names of a list of metrics, in their own order; PSNR always is among them.

    Without a list, all whose packages are installed.
    """
    from vaecodec.bench.perceptual import has_ssimulacra2, load_ssimulacra2
    from vaecodec.bench.results import METRICS, PSNR, SSIMULACRA2

    if text is None:
        return [name for name in METRICS if name != SSIMULACRA2.name or has_ssimulacra2()]
    wanted = {PSNR.name, *_parts(text)}
    for name in sorted(wanted - METRICS.keys()):
        known = ", ".join(METRICS)
        raise typer.BadParameter(f"{name} is none of {known}", param_hint="--metrics")
    if SSIMULACRA2.name in wanted:
        load_ssimulacra2()
    return [name for name in METRICS if name in wanted]


def parse_damages(sigmas: str | None, jpegs: str | None) -> list[Damage]:
    """Return what lists such as "15,25,50" and "20" say; none where neither was given."""
    from vaecodec.bench.denoising import Damage

    of_noise = _numbers(sigmas, "--sigmas", 0, 255)
    of_jpeg = sorted({int(quality) for quality in _numbers(jpegs, "--jpegs", 1, 95)})
    return [*(Damage(sigma) for sigma in of_noise), *(Damage(jpeg=q) for q in of_jpeg)]


def _numbers(text: str | None, option: str, least: float, most: float) -> list[float]:
    """Return the different numbers of a list, ascending; none where there is no list."""
    if text is None:
        return []
    try:
        numbers = sorted({float(part) for part in _parts(text)})
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    if not numbers or not all(least <= number <= most for number in numbers):
        reason = f"numbers from {least:g} to {most:g} are wanted"
        raise typer.BadParameter(reason, param_hint=option)
    return numbers


def parse_methods(text: str | None) -> list[Method]:
    """Return the other denoisers to measure."""
    from vaecodec.bench.denoising_peers import choose_methods

    try:
        return choose_methods(_parts(text or ""))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--methods") from error


def choose_codecs(text: str | None, device: str) -> list[Peer]:
    """Return the other codecs to measure; BD-rate is going to need SciPy then."""
    from vaecodec.bench.peers import choose_peers
    from vaecodec.metrics import load_pchip

    if text is None:
        return []
    names = _parts(text)
    if not names:
        raise typer.BadParameter("the list is empty", param_hint="--codecs")
    try:
        peers = choose_peers(names, device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--codecs") from error
    load_pchip()
    return peers


def _parts(text: str) -> list[str]:
    return text.replace(",", " ").split()


def read_curves(path: str | None, names: list[str]) -> Curves:
    """Return the curves to compare with, before the measuring that a mistake would waste."""
    if path is None:
        if names:
            raise typer.BadParameter("it needs --curves JSON", param_hint="--against")
        return {}

    from vaecodec.curves import choose_curves, load_curves
    from vaecodec.metrics import load_pchip

    load_pchip()
    try:
        return choose_curves(load_curves(path), names)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--against") from error
