from pathlib import Path

from typer.testing import CliRunner

from export.__main__ import app
from export.drawings import PICTURES, SHOWN, SIZE, examine
from vaecodec.codec import Codec


def test_every_picture_is_measured_and_shown(tiny_bundle: Path, tmp_path: Path):
    sheet = tmp_path / "sheet.png"
    arguments = ["drawings", str(tiny_bundle), "--picture", str(sheet), "--quality", "80"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for name in PICTURES:
        assert name in result.output
    assert sheet.stat().st_size > 1000


def test_pictures_are_not_blank_and_figures_are_theirs(tiny_bundle: Path):
    outcomes = examine(Codec(tiny_bundle), 50)
    assert [one.name for one in outcomes] == list(PICTURES)
    for one in outcomes:
        picture = PICTURES[one.name]()
        assert picture.size == SIZE
        assert len(picture.getcolors(SIZE[0] * SIZE[1]) or []) > 2
        assert one.png_bpp < 8
        assert one.shown.size == (4 * SHOWN, 2 * SHOWN)
