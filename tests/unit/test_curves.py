import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from test_bench_html import make_report

from vaecodec.cli.console import json_text
from vaecodec.curves import choose_curves, compare, load_curves
from vaecodec.errors import InputError, RuntimeUnavailableError

CURVE = [(0.1, 27.0), (0.3, 30.0), (0.9, 35.0)]


def test_load(tmp_path: Path):
    path = tmp_path / "curves.json"
    points = [{"bpp": 1, "psnr_rgb": 30, "ms_ssim_rgb": 0.9}, {"bpp": 2, "psnr_rgb": None}]
    path.write_text(json.dumps({"one": points, "none": []}))
    assert load_curves(path) == {"one": [(1.0, 30.0)], "none": []}


def test_a_report_of_the_bench_is_a_curve(tmp_path: Path):
    path = tmp_path / "report.json"
    path.write_text(json_text(asdict(make_report())))
    assert load_curves(path) == {"tiny": [(0.2, 26.0), (2.0, 35.0)]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"qualities": 1}',
        '{"qualities": []}',
        "[1]",
        '{"a": 1}',
        '{"a": [1]}',
        '{"a": [{"psnr_rgb": 30}]}',
        '{"a": [{"bpp": "x", "psnr_rgb": 30}]}',
        '{"a": [{"bpp": [], "psnr_rgb": 30}]}',
        '{"a": [{"bpp": 1' + "0" * 400 + ', "psnr_rgb": 30}]}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_what_is_no_file_of_curves(tmp_path: Path, text: str):
    path = tmp_path / "curves.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="is not a JSON file of curves"):
        load_curves(path)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        load_curves(tmp_path / "absent.json")


def test_choice():
    curves = {"vtm": CURVE, "hm": CURVE, "jpeg": CURVE}
    assert choose_curves(curves, []) == curves
    assert list(choose_curves(curves, ["jpeg", "vtm"])) == ["jpeg", "vtm"]
    with pytest.raises(ValueError, match=r"no curve named vtn \(there is vtm\)"):
        choose_curves(curves, ["hm", "vtn"])
    with pytest.raises(ValueError, match="there is hm, jpeg, vtm"):
        choose_curves(curves, ["zzz"])


def test_comparisons_take_the_curve_as_the_anchor():
    dearer = [(1.2 * rate, fidelity) for rate, fidelity in CURVE]
    far = [(rate, fidelity + 20) for rate, fidelity in CURVE]
    result = compare(iter(dearer), {"same": CURVE, "far": far, "short": CURVE[:1]})
    assert [comparison.codec for comparison in result] == ["same", "far", "short"]
    assert result[0].percent == pytest.approx(20)
    assert result[0].points == len(CURVE)
    assert compare(CURVE, {"fewer": CURVE[:3]})[0].points == 3
    assert (result[0].low, result[0].high, result[0].problem) == (27.0, 35.0, "")
    assert result[1].percent is result[2].percent is None
    assert "do not overlap" in result[1].problem
    assert "two usable points" in result[2].problem


def test_a_missing_package_is_not_a_missing_overlap(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
    with pytest.raises(RuntimeUnavailableError):
        compare(CURVE, {"same": CURVE})
