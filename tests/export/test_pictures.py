from __future__ import annotations

import io
import tarfile
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import SAMPLES, TINY_RECIPE
from torch.nn import functional
from typer.testing import CliRunner

from export import packs
from export.__main__ import app, main
from export.data import LUMA, SATURATION, Crops, read_images
from export.fonts import alphabets, find_fonts
from export.graphics import draw
from export.recipe import Pictures, Recipe
from export.state import CHECKPOINT, load

PHOTOGRAPH = SAMPLES / "astronaut-sign.jpg"
LEVELS = {"a.tar": 10, "b": 90, "c": 200}
"""Grey level of all images of a source."""


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def flat(level: int, size: int = 64) -> bytes:
    return png(np.full((size, size, 3), level, np.uint8))


def write_pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as pack:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            pack.addfile(member, io.BytesIO(data))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """One image in a pack, one in a folder, three in another."""
    return [
        write_pack(tmp_path / "a.tar", {"0.png": flat(LEVELS["a.tar"])}),
        write_folder(tmp_path / "b", {"0.png": flat(LEVELS["b"])}),
        write_folder(tmp_path / "c", {f"{i}.png": flat(LEVELS["c"]) for i in range(3)}),
    ]


def found(crops: Crops, batches: int) -> dict[str, float]:
    """Return the share of crops that each source, and nothing else, could have given."""
    levels = torch.cat([crops.get(step)[:, 0, 0, 0] for step in range(batches)])
    return {name: float((levels == level).float().mean()) for name, level in LEVELS.items()}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({}, {"a.tar": 0.2, "b": 0.2, "c": 0.6}),
        ({"a.tar": 0.5}, {"a.tar": 0.5, "b": 0.125, "c": 0.375}),
        ({"c": 0.1, "a.tar": 0.9}, {"a.tar": 0.9, "b": 0.0, "c": 0.1}),
        ({"b": 0.0}, {"a.tar": 0.25, "b": 0.0, "c": 0.75}),
    ],
)
def test_sources_get_their_shares(
    sources: list[Path], shares: dict[str, float], expected: dict[str, float]
):
    crops = Crops(sources, 64, 100, seed=1, pictures=Pictures(shares=shares))
    assert found(crops, 30) == pytest.approx(expected, abs=0.03)
    levels = (crops.patches(3000, 16)[:, 0, 0, 0] * 255).round()
    for name, share in expected.items():
        assert float((levels == LEVELS[name]).float().mean()) == pytest.approx(share, abs=0.03)


def test_drawings_take_their_share_of_all(sources: list[Path]):
    pictures = Pictures(shares={"a.tar": 0.3}, drawn=0.4)
    crops = Crops(sources, 64, 100, seed=1, pictures=pictures)
    batch = torch.cat([crops.get(step) for step in range(6)])
    drawn = ((batch != batch[:, :, :1, :1]).flatten(1).any(1)).float().mean()
    assert 0.3 < float(drawn) < 0.45  # some drawings are of one colour, and none is a photograph
    assert float((batch[:, 0] == LEVELS["a.tar"]).flatten(1).all(1).float().mean()) > 0.25
    patches = crops.patches(2000, 16)
    assert float((patches != patches[:, :, :1, :1]).flatten(1).any(1).float().mean()) > 0.1


def crop_as_before(images: list[torch.Tensor], side: int, rng: np.random.Generator) -> torch.Tensor:
    """Make a crop as it was made before there were shares, drawings and changes of colour."""
    image = images[rng.integers(len(images))]
    size = side
    if rng.random() < 0.5:
        shorter = min(image.shape[1:])
        size = min(round(size * rng.uniform(1, min(2.0, shorter / size))), shorter)
    top, left = (rng.integers(length - size + 1) for length in image.shape[1:])
    pixels = image[:, top : top + size, left : left + size]
    if size != side:
        finer = functional.interpolate(
            pixels[None].float(), (side, side), mode="bicubic", antialias=True
        )
        pixels = finer[0].round().clamp(0, 255).to(torch.uint8)
    if rng.random() < 0.5:
        pixels = pixels.flip(2)
    return pixels.rot90(1, (1, 2)) if rng.random() < 0.25 else pixels


@pytest.mark.parametrize("pictures", [None, Pictures()])
def test_by_default_crops_are_what_they_were(pictures: Pictures | None):
    """Runs, and bundles that are trained on, do not depend on what this table came with."""
    sources = [PHOTOGRAPH, SAMPLES]
    crops = Crops(sources, 64, 3, seed=5, pictures=pictures)
    images = [torch.tensor(pixels).permute(2, 0, 1) for pixels in read_images(sources, 64)]
    for step, rank in ((0, 0), (1, 0), (1, 1), (977, 3)):
        rng = np.random.default_rng([5, step, rank])
        before = [crop_as_before(images, 64, rng) for _ in range(3)]
        assert torch.equal(crops.get(step, rank), torch.stack(before))
    rng = np.random.default_rng([5, 0x9A7C])
    for patch in crops.patches(40, 16):
        image = images[rng.integers(len(images))]
        top, left = (rng.integers(length - 15) for length in image.shape[1:])
        assert torch.equal(patch, image[:, top : top + 16, left : left + 16].float().div(255))


def test_the_same_crops_are_recoloured():
    """Colours do not move the crops: a change of recipe changes what it names alone."""
    plain = Crops([PHOTOGRAPH], 64, 8, seed=2)
    permuted = Crops([PHOTOGRAPH], 64, 8, seed=2, pictures=Pictures(permuted=0.5))
    changed = 0
    for step in range(20):
        for before, after in zip(plain.get(step), permuted.get(step), strict=True):
            assert torch.equal(before.sort(0).values, after.sort(0).values)
            changed += not torch.equal(before, after)
    assert 60 < changed < 100


def test_all_permuted_crops_change(tmp_path: Path):
    colour = np.broadcast_to(np.array([10, 90, 200], np.uint8), (64, 64, 3))
    (tmp_path / "one.png").write_bytes(png(colour))
    crops = Crops([tmp_path / "one.png"], 64, 200, seed=0, pictures=Pictures(permuted=1))
    orders = {tuple(order) for order in crops.get(0)[:, :, 5, 5].tolist()}
    assert len(orders) == 5
    assert (10, 90, 200) not in orders


def test_grey_crops_show_the_luma():
    plain = Crops([PHOTOGRAPH], 64, 50, seed=2).get(0).float()
    crops = Crops([PHOTOGRAPH], 64, 50, seed=2, pictures=Pictures(grey=0.3, permuted=0.0))
    batch = crops.get(0)
    grey = (batch == batch[:, :1]).flatten(1).all(1)
    assert 8 <= int(grey.sum()) <= 22
    luma = (plain * torch.tensor(LUMA)[:, None, None]).sum(1)
    assert float((batch[grey, 0].float() - luma[grey]).abs().max()) <= 0.51
    assert torch.equal(batch[~grey].float(), plain[~grey])


def test_saturation_keeps_the_luma_and_the_hue(tmp_path: Path):
    colour = np.array([110, 120, 135], np.uint8)
    (tmp_path / "one.png").write_bytes(png(np.broadcast_to(colour, (64, 64, 3))))
    pictures = Pictures(saturated=0.5)
    crops = Crops([tmp_path / "one.png"], 64, 500, seed=0, pictures=pictures)
    pixels = crops.get(0)[:, :, 0, 0].double().numpy()
    weights = np.array(LUMA)
    luma = colour @ weights
    assert np.abs(pixels @ weights - luma).max() < 0.51
    factors = (pixels[:, 2] - luma) / (colour[2] - luma)
    changed = factors[(pixels != colour).any(1)]
    assert 200 < len(changed) < 280
    assert SATURATION[0] - 0.05 < changed.min() < 0.7
    assert 2.4 < changed.max() < SATURATION[1] + 0.05
    middle = np.sqrt(SATURATION[0] * SATURATION[1])  # half of the factors are below
    assert 0.4 < (changed < middle).mean() < 0.6


def test_batches_with_everything_depend_on_the_step_alone():
    pictures = Pictures({"astronaut-sign.jpg": 0.5}, 0.2, 0.1, 0.3, 0.4, hold_back=True)
    one, other = (Crops([PHOTOGRAPH, SAMPLES], 64, 8, 7, pictures=pictures) for _ in range(2))
    assert torch.equal(one.get(5), other.get(5))
    assert torch.equal(one.get(3), other.get(3))
    assert not torch.equal(one.get(3), one.get(4))
    assert not torch.equal(one.get(3), one.get(3, rank=1))
    assert torch.equal(one.patches(50, 16), other.patches(50, 16))
    assert one.get(0).shape == (8, 3, 64, 64)


def test_the_list_of_what_is_held_back():
    names = packs.held_back_tiles()
    for suffix, first in ((".avif", "2"), (".webp", "4")):
        tiles = [name for name in names if name.endswith(suffix)]
        assert len({packs.photograph(name) for name in tiles}) == 24
        assert all(name[0] == first for name in tiles)
    assert len(names) == 48


def test_no_tile_of_a_photograph_that_is_held_back_is_seen(tmp_path: Path):
    held = sorted(packs.held_back_tiles())[0]
    number = packs.photograph(held)
    files = {held: flat(10), f"{number}_9.png": flat(20), "9999_0.png": flat(30)}
    files |= {f"{number}.png": flat(40), f"{number}_0_2.png": flat(50)}
    pack, folder = write_pack(tmp_path / "a.tar", files), write_folder(tmp_path / "b", files)
    (folder / held).rename(folder / f"{number}_1.png")
    for source in (pack, folder):
        levels = {int(image[0, 0, 0]) for image in read_images([source], 1)}
        assert levels == {10, 20, 30, 40, 50}
        levels = {int(image[0, 0, 0]) for image in read_images([source], 1, hold_back=True)}
        assert levels == {30, 40, 50}
        crops = Crops([source], 64, 1, 0, pictures=Pictures(hold_back=True))
        assert {int(image[0, 0, 0]) for image in crops.images} == {30, 40, 50}
    assert len(Crops([pack], 64, 1, 0).images) == 5


def test_held_back_tiles_are_written(tmp_path: Path):
    held = sorted(packs.held_back_tiles())[:2]
    pack = write_pack(tmp_path / "a.tar", {held[0]: flat(10), held[1]: flat(20), "1_0.png": b""})
    arguments = ["held-back", str(pack), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "2 tiles of a.tar" in result.output
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert written == {f"{Path(name).stem}.png" for name in held}
    with Image.open(tmp_path / "out" / f"{Path(held[1]).stem}.png") as image:
        assert image.getpixel((3, 3)) == (20, 20, 20)


def test_a_pack_without_them_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pack = write_pack(tmp_path / "a.tar", {"0.png": flat(10)})
    monkeypatch.setattr("sys.argv", ["export", "held-back", str(pack), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^export: error: .*a\.tar holds no tile of held-back"):
        main()


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ({"shares": {"d.tar": 0.1}}, r"no training data is named d\.tar, which has a share"),
        ({"shares": {"a.tar": 0.3, "b": 0.3, "c": 0.3}}, r"but those with a share.*0\.1 is left"),
        ({"shares": {"small": 0.3}}, "no image of at least 64 pixels a side in small"),
    ],
)
def test_shares_that_do_not_fit_the_sources(
    sources: list[Path], tmp_path: Path, pictures: dict, message: str
):
    small = write_folder(tmp_path / "small", {"0.png": flat(1, 32)})
    with pytest.raises(ValueError, match=message) as error:
        Crops([*sources, small], 64, 1, 0, pictures=Pictures(**pictures))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("drawn = 1.5", r"drawn must be a number from 0 to 1, not 1\.5"),
        ("grey = true", "grey must be a number"),
        ("shares = 0.3", "shares must be a table"),
        ('shares = {"a.tar" = "most"}', r"the share of a\.tar must be a number"),
        ('shares = {"a.tar" = 0.9}\ndrawn = 0.2', r"must not exceed 1 together: 1\.1"),
        ("hold_back = 1", "hold_back must be true or false"),
        ("sepia = 0.1", "the recipe does not fit.*sepia"),
    ],
)
def test_tables_that_do_not_fit(table: str, message: str):
    with pytest.raises(ValueError, match=message) as error:
        Recipe.from_dict(tomllib.loads(f"[pictures]\n{table}"))
    assert "\n" not in str(error.value)


def test_recipes_keep_the_table_and_do_without():
    shares = {"a.tar": 0.5, "b": 0.1}
    recipe = replace(Recipe(), pictures=Pictures(shares, drawn=0.1, hold_back=True))
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    older = recipe.to_dict()
    del older["pictures"]
    assert Recipe.from_dict(older) == Recipe()


def write_recipe(folder: Path) -> Path:
    tables = [f"[pictures]\ndrawn = 0.2\npermuted = 0.3\nshares = {{'{PHOTOGRAPH.name}' = 0.4}}"]
    for name, table in TINY_RECIPE.items():
        tables.append(f"[{name}]\n" + "\n".join(f"{k} = {v}" for k, v in table.items()))
    path = folder / "recipe.toml"
    path.write_text("\n".join(tables))
    return path


def test_the_command_line_trains_on_them(tmp_path: Path, sources: list[Path]):
    """A share may be given there, too, and a run that is resumed takes up the new ones."""
    recipe, run = write_recipe(tmp_path), tmp_path / "run"
    arguments = ["train", "--recipe", str(recipe), "--run", str(run), "--cpu"]
    for path in (PHOTOGRAPH, *sources):
        arguments += ["--data", str(path)]
    arguments += ["--validation", str(PHOTOGRAPH), "--share", "a.tar=0.1"]
    for steps, changes, shares in (
        ("11", [], {PHOTOGRAPH.name: 0.4, "a.tar": 0.1}),
        ("12", ["--share", f"{PHOTOGRAPH.name}=0.3"], {PHOTOGRAPH.name: 0.3, "a.tar": 0.1}),
    ):
        result = CliRunner().invoke(
            app, [*arguments, *changes, "--steps", steps], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        used = load(run / CHECKPOINT)[0].pictures
        assert used == Pictures(shares, drawn=0.2, permuted=0.3)


@pytest.mark.parametrize("share", ["0.3", "a.tar=much", "=0.1"])
def test_a_share_that_cannot_be_read(tmp_path: Path, share: str):
    arguments = ["train", "--data", str(PHOTOGRAPH), "--run", str(tmp_path), "--share", share]
    error = CliRunner().invoke(app, [*arguments, "--cpu"]).exception
    assert isinstance(error, ValueError)
    assert str(error) == f"--share must be NAME=SHARE, not {share}"


@pytest.mark.parametrize("size", [64, 128, 256])
def test_drawings_are_the_same_again_and_of_many_colours(size: int):
    behind = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    pictures = []
    for index in range(40):
        background = behind if index % 2 else None
        one, other = (draw(np.random.default_rng(index), size, background) for _ in range(2))
        assert one.shape == (size, size, 3)
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)
        pictures.append(one)
    assert len({picture.tobytes() for picture in pictures}) > 35
    assert len(np.unique(np.concatenate(pictures).reshape(-1, 3), axis=0)) > 1000
    sharp = [np.abs(np.diff(picture.astype(int), axis=1)).max() > 60 for picture in pictures]
    assert np.mean(sharp) > 0.6


def test_text_is_drawn_without_any_font_of_the_system(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("export.drawn_text.find_fonts", lambda: ())
    assert alphabets("")
    for index in range(20):
        assert draw(np.random.default_rng(index), 64).shape == (64, 64, 3)


def test_what_is_no_font_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    monkeypatch.setattr("export.fonts.FOLDERS", (str(tmp_path), str(tmp_path / "missing")))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    paths = find_fonts.__wrapped__()
    assert paths == (str(tmp_path / "a.ttf"),)
    monkeypatch.setattr("export.drawn_text.find_fonts", lambda: paths)
    for index in range(10):
        assert draw(np.random.default_rng(index), 64).shape == (64, 64, 3)
