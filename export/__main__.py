"""Command line of the factory, ``python -m export``.

train | onnx | rewrite | adapt-denoiser | curve | parts | drawings | forecast | ceiling | triton |
verify | held-back
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.mistakes import can_be_mended

if TYPE_CHECKING:
    from export.measure import Measured

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RECIPES = Path(__file__).parent / "recipes"
SAMPLES = Path(__file__).parent.parent / "samples"


@app.callback()
def factory() -> None:
    """Train models, export them as bundles, measure and verify them."""


@app.command()
def train(
    data: Annotated[list[Path], typer.Option(help="Folders of images or .tar packs; repeatable.")],
    run: Annotated[Path, typer.Option(help="Folder for checkpoint, logs and plot.")],
    recipe: Annotated[Path, typer.Option(help="Recipe (TOML).")] = RECIPES / "base.toml",
    validation: Annotated[
        list[Path] | None, typer.Option(help="Held-out images; without it, the training data.")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(help="Bundle or run that a new run starts from.")
    ] = None,
    denoiser_from: Annotated[
        Path | None,
        typer.Option(
            help="Bundle or run of a denoiser to adapt to the autoencoder of --init-from."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Last step, instead of the recipe's.")] = None,
    decay_steps: Annotated[
        int | None, typer.Option(help="Steps of falling rates at the end, instead of the recipe's.")
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SHARE",
            help="Share of the crops for the --data of this name, over the recipe's; repeatable.",
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option(help="Do not use a GPU.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile: minutes at first, then faster on a GPU.")
    ] = False,
) -> None:
    """Train a model, or resume the run in the folder.

    Several processes, on GPUs or on the cores of a CPU: `torchrun --nproc-per-node 2 -m -- export
    train ...`; the batch is that of one process.
    """
    import torch

    from export import train as trainer
    from export.data import Crops
    from export.denoiser import Denoiser
    from export.recipe import Recipe
    from export.state import CHECKPOINT, load, start, trained_model, with_balance

    torch.set_flush_denormal(True)
    chosen = Recipe.read(recipe)
    changes: dict[str, Any] = {"steps": steps, "decay_steps": decay_steps}
    if chosen.training.autocast == "bfloat16" and not trainer.computes_bfloat16(cpu=cpu):
        typer.echo("this processor has no bfloat16: training in float32", err=True)
        changes["autocast"] = "off"
    given = {name: value for name, value in changes.items() if value is not None}
    shares = chosen.pictures.shares | dict(map(_share, share or []))
    chosen = replace(
        chosen,
        training=replace(chosen.training, **given),
        pictures=replace(chosen.pictures, shares=shares),
    )
    run.mkdir(parents=True, exist_ok=True)
    training = chosen.training
    device = trainer.training_device(cpu=cpu)
    crops = Crops(data, training.crop, training.batch, training.seed, device, chosen.pictures)
    if validation is None:
        typer.echo("no --validation: validating on training images, which flatters", err=True)
    held_out = trainer.validation_crops(validation or data)
    checkpoint = run / CHECKPOINT
    if checkpoint.exists():
        if init_from is not None or denoiser_from is not None:
            raise ValueError(f"{run} is a run already: --init-from and --denoiser-from begin one")
        trained, state = load(checkpoint, training)
        if chosen.denoiser:
            chosen = replace(chosen, model=trained.model)
        if (trained.model, trained.denoiser) != (chosen.model, chosen.denoiser):
            raise ValueError(f"the run in {run} is of another model than {recipe}")
        chosen = replace(chosen, training=trained.training)
        typer.echo(f"resuming {run} at step {state.step:,}")
    else:
        is_denoiser = chosen.denoiser is not None
        initial = trained_model(init_from, denoiser=is_denoiser) if init_from else None
        if is_denoiser and initial:
            chosen = replace(chosen, model=initial.arch)
        earlier = trained_model(denoiser_from, denoiser=True) if denoiser_from else None
        if earlier is not None and not (is_denoiser and isinstance(earlier, Denoiser)):
            raise ValueError("--denoiser-from names a denoiser, for a recipe of one")
        state = start(chosen, crops, initial, earlier)
        chosen = with_balance(chosen, state, crops)
    trainer.Trainer(chosen, state, crops, held_out, run, cpu=cpu, compiled=compiled).run()


@app.command("onnx")
def export_onnx(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint, or the run's folder.")],
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to write.")],
    name: Annotated[str | None, typer.Option(help="Name; the folder's, if not given.")] = None,
    version: Annotated[str | None, typer.Option(help="Of the weights; 0.1.0 by default.")] = None,
    data: Annotated[str, typer.Option(help="What it was trained on, for the manifest.")] = "",
    licence: Annotated[
        str | None, typer.Option(help="Of the weights; Apache-2.0 by default.")
    ] = None,
) -> None:
    """Write a checkpoint's averaged weights as a bundle, or a denoiser's into one that is there."""
    from export.bundle import add_denoiser, write_bundle
    from export.denoiser import Denoiser
    from export.state import CHECKPOINT, averaged_model

    path = checkpoint / CHECKPOINT if checkpoint.is_dir() else checkpoint
    recipe, model, steps, seconds = averaged_model(path)
    training = {
        "data": data,
        "steps": steps,
        "hours": round(seconds / 3600, 2),
        "recipe": recipe.to_dict()["training"],
        "pictures": recipe.to_dict()["pictures"],
    }
    if isinstance(model, Denoiser):
        if name or version or licence:
            raise ValueError("name, version and licence of a denoiser are those of its bundle")
        add_denoiser(model, bundle, training)
    else:
        provenance = {
            "version": version or "0.1.0",
            "licence": licence or "Apache-2.0",
            "training": training,
        }
        write_bundle(model, bundle, name or bundle.name, provenance)
    typer.echo(f"{bundle}: {_megabytes(bundle):.2f} MB after {steps:,} steps")


@app.command()
def rewrite(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to read.")],
    target: Annotated[Path, typer.Argument(help="Folder of the bundle to write.")],
) -> None:
    """Write the weights of a bundle anew, its denoiser's too, in graphs as they are built now.

    It is another model to files: those of the old bundle are not read with the new one.
    """
    from export.bundle import add_denoiser, write_bundle
    from export.bundle_weights import read_denoiser, read_model
    from vaecodec.bundle import find_bundle

    manifest = find_bundle(bundle).manifest
    kept = ("version", "licence", "training")
    provenance = {key: manifest[key] for key in kept if key in manifest}
    model, denoiser = read_model(bundle), read_denoiser(bundle)
    write_bundle(model, target, str(manifest["name"]), provenance)
    if denoiser is not None:
        add_denoiser(denoiser, target, manifest["denoiser"]["training"])
    typer.echo(f"{target}: {_megabytes(target):.2f} MB")


@app.command("adapt-denoiser")
def adapt_denoiser(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle that is to have one.")],
    source: Annotated[Path, typer.Argument(help="Folder of the bundle whose denoiser it gets.")],
) -> None:
    """Give a bundle the denoiser of another one, until its own is trained.

    The networks on pixels are taken over, and the analysis between them is that of the bundle.
    """
    from export.bundle import add_denoiser
    from export.bundle_weights import read_denoiser, read_model
    from export.denoiser import Denoiser
    from vaecodec.bundle import find_bundle

    earlier = read_denoiser(source)
    if earlier is None:
        raise ValueError(f"{source} has no denoiser")
    model = read_model(bundle)
    denoiser = Denoiser(model.arch, earlier.shape)
    denoiser.inherit(model, earlier)
    origin = find_bundle(source)
    training = {**origin.manifest["denoiser"]["training"], "adapted_from": origin.model_id.hex()}
    add_denoiser(denoiser.eval(), bundle, training)
    typer.echo(f"{bundle}: {_megabytes(bundle):.2f} MB")


@app.command()
def curve(
    run: Annotated[Path, typer.Argument(help="Folder of a run or of a bundle.")],
    images: Annotated[list[Path], typer.Option(help="Folders of images or packs; repeatable.")],
    curves: Annotated[Path | None, typer.Option(help="Published curves (JSON).")] = None,
    against: Annotated[list[str] | None, typer.Option(help="Curve to compare with.")] = None,
    every: Annotated[int, typer.Option(help="Take every n-th image.", min=1)] = 1,
    levels: Annotated[int, typer.Option(help="Levels, evenly spread.", min=2)] = 10,
    json: Annotated[Path | None, typer.Option(help="File for the curve, to compare with.")] = None,
    earlier: Annotated[
        Path | None, typer.Option(help="What --json wrote of another run, to compare with.")
    ] = None,
) -> None:
    """Estimate rate and fidelities over the levels, without exporting or coding.

    The rate is a little high where sides are no multiples of 64.
    """
    from export.measure import compare_measured, measure, photographs, read_measured, write_measured
    from export.model import Model
    from export.state import trained_model
    from vaecodec.bundle import ANCHORS
    from vaecodec.curves import choose_curves, compare, load_curves

    if against and curves is None:
        raise typer.BadParameter("it needs --curves JSON", param_hint="--against")
    chosen = choose_curves(load_curves(curves), against or []) if curves else {}
    before = read_measured(earlier) if earlier else []
    model = trained_model(run)
    if not isinstance(model, Model):
        raise ValueError(f"{run} is a denoiser: see `vaecodec bench --denoise`")
    batches = list(photographs(images, every))
    found: list[Measured] = []
    for index in range(levels):
        level = index * (ANCHORS - 1) / (levels - 1)
        one = measure(model, batches, level, with_ms_ssim=True)
        found.append(one)
        typer.echo(
            f"level {level:4.1f}  {one.bpp:.4f} bpp  {one.psnr_db:.3f} dB  "
            f"MS-SSIM {one.ms_ssim_db:.3f} dB  SSIMULACRA 2 {one.ssimulacra2:.2f}"
        )
    if json is not None:
        write_measured(json, found)
    points = [(one.bpp, one.psnr_db) for one in found]
    for comparison in compare(points, chosen):
        figure = comparison.problem if comparison.percent is None else f"{comparison.percent:+.1f}%"
        typer.echo(f"BD-rate against {comparison.codec}: {figure}")
    for line in compare_measured(before, found) if before else ():
        typer.echo(line)


@app.command()
def parts(
    run: Annotated[Path, typer.Argument(help="Folder of a denoiser's run, or of a bundle.")],
    images: Annotated[list[Path], typer.Option(help="Folders of images or packs; repeatable.")],
    every: Annotated[int, typer.Option(help="Take every n-th image.", min=1)] = 1,
) -> None:
    """Measure what each part of a denoiser gives, and the most that its autoencoder could."""
    from export.denoiser import Denoiser
    from export.denoising import measure_parts
    from export.measure import photographs
    from export.state import trained_model

    model = trained_model(run, denoiser=True)
    if not isinstance(model, Denoiser):
        raise ValueError(f"{run} has no denoiser")
    typer.echo("damage       front  autoencoder  with refinement  autoencoder, of the clean image")
    for damage, psnr in measure_parts(model, photographs(images, every), ceiling=True).items():
        typer.echo(
            f"{damage:11} {psnr['estimate']:6.2f} {psnr['decoded']:12.2f} {psnr['restored']:16.2f} "
            f"{psnr['ceiling']:32.2f}"
        )


@app.command()
def drawings(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    picture: Annotated[Path | None, typer.Option(help="PNG to show details in.")] = None,
    quality: Annotated[float, typer.Option(help="0 to 100.", min=0, max=100)] = 50,
) -> None:
    """Measure a bundle on text, line art and a screenshot, which are no photographs."""
    from export.drawings import examine, sheet
    from vaecodec.codec import Codec

    outcomes = examine(Codec(bundle), quality)
    typer.echo("picture      bpp   psnr_db  JPEG, as faithful, bpp  PNG, lossless, bpp")
    for one in outcomes:
        jpeg = "none" if one.jpeg_bpp is None else f"{one.jpeg_bpp:.3f}"
        typer.echo(
            f"{one.name:10} {one.bpp:5.3f}  {one.psnr_db:8.3f}  {jpeg:>22}  {one.png_bpp:18.3f}"
        )
    if picture is not None:
        sheet(outcomes).save(picture, optimize=True)


@app.command()
def forecast(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    images: Annotated[list[Path], typer.Option(help="Folders of images or packs; repeatable.")],
    every: Annotated[int, typer.Option(help="Take every n-th image.", min=1)] = 1,
) -> None:
    """Fit the tables of vaecodec/forecast.py, which a search for a size begins with."""
    import numpy as np

    from export.data import read_images
    from export.forecast import fit
    from vaecodec.codec import Codec

    chosen = itertools.islice(read_images(images, 1), 0, None, every)
    for name, table in fit(Codec(bundle), chosen).items():
        rows = [f"({', '.join(f'{factor:.3f}' for factor in row)})" for row in np.atleast_2d(table)]
        lines = "".join(f"    {row},\n" for row in rows)
        typer.echo(f"{name} = (\n{lines})" if len(rows) > 1 else f"{name} = {rows[0]}")


@app.command()
def ceiling(
    path: Annotated[Path, typer.Argument(help="Graph to write; vaecodec/bench/convolution.onnx.")],
) -> None:
    """Write the graph by which `vaecodec bench --speed` tells what a machine could do."""
    from export.ceiling import convolutions

    path.write_bytes(convolutions().SerializeToString())


@app.command()
def triton(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    repository: Annotated[Path, typer.Argument(help="Folder of the model repository to write.")],
    device: Annotated[str, typer.Option(help="Where the models run: cpu or cuda.")] = "cpu",
) -> None:
    """Write a bundle as models of the Triton Inference Server.

    Other models of a repository that is there already stay as they are.
    """
    from export.triton import write_repository

    typer.echo(f"{repository}: {', '.join(write_repository(bundle, repository, device))}")


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="Photographs for real latents; repeatable.")
    ] = None,
) -> None:
    """Check a bundle: exactness, tables, graphs against PyTorch, clipped shares."""
    from export.verify import verify as check

    chosen = images or sorted(SAMPLES.glob("*.jpg"))
    failed = False
    for finding in check(bundle, chosen):
        typer.echo(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.check}: {finding.detail}")
        failed |= not finding.passed
    if failed:
        raise typer.Exit(1)


@app.command("held-back")
def held_back(
    packs: Annotated[list[Path], typer.Argument(help="Training packs or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")],
) -> None:
    """Write the tiles that `hold_back` keeps from training as PNG, for `vaecodec bench`."""
    from export.packs import write_held_back

    for pack in packs:
        typer.echo(f"{out}: {write_held_back(pack, out)} tiles of {pack.name}")


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        if name:
            return name, float(share)
    except ValueError:
        pass
    raise ValueError(f"--share must be NAME=SHARE, not {text}")


def _megabytes(bundle: Path) -> float:
    return sum(file.stat().st_size for file in bundle.iterdir()) / 1e6


def main() -> None:
    """Run the command line; what the user can mend is said in one line."""
    try:
        app()
    except ModuleNotFoundError as error:
        sys.exit(f"export: error: {error.name} is missing (try: pip install -e '.[cpu,train]')")
    except Exception as error:
        if not can_be_mended(error):
            raise
        sys.exit(f"export: error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
