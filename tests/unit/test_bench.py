from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_bench_html import make_report

from export.ceiling import convolutions
from vaecodec import bench
from vaecodec.bench.folder import check_plain
from vaecodec.bench.method import describe_machine, method_section
from vaecodec.bench.mosaic import mosaic, sides
from vaecodec.bench.peers import choose_peers
from vaecodec.bench.pillow_peers import PEERS
from vaecodec.bench.text import text_table
from vaecodec.bundle import MANIFEST, find_bundle
from vaecodec.codec import Codec
from vaecodec.errors import ImageError, InputError, ModelError
from vaecodec.image import read_image, write_image
from vaecodec.metadata import KINDS
from vaecodec.metrics import fidelity_db
from vaecodec.raster import Raster, from_array
from vaecodec.trace import Trace


class PngCodec:
    """Stands in for a codec: PNG with samples rounded, more coarsely at lower qualities."""

    def __init__(self) -> None:
        self.encoded: list[float] = []

    def encode(
        self,
        image: Raster,
        *,
        quality: float = 50.0,
        strip: Collection[str] = (),
        trace: Trace | None = None,
    ) -> bytes:
        self.encoded.append(quality)
        step = 1 + int(100 - quality) // 5
        samples = image.read().copy()
        colours = samples[:, :, : image.mode.colours]
        colours[...] = colours // step * step
        data = bytes(write_image(from_array(samples), ".png"))
        if trace:
            trace.seconds = {"image": 0.25, "entropy": 0.75}
            trace.estimated_bits = 8 * len(data) / 1.25
        return data

    def decode_raster(self, data: bytes, *, trace: Trace | None = None) -> Raster:
        time.sleep(0.001)
        if trace:
            trace.seconds = {"entropy": 0.0005}
        return read_image(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One RGB image of 30x20 and a grey one of 20x30, and what is to be left aside."""
    rng = np.random.default_rng(5)
    Image.fromarray(rng.integers(0, 256, (30, 20), np.uint8)).save(tmp_path / "b.PNG")
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "a.bmp")
    (tmp_path / "README.md").write_text("not an image")
    (tmp_path / "c.png").mkdir()
    return tmp_path


def test_find_images(folder: Path):
    assert [path.name for path in bench.find_images(folder)] == ["a.bmp", "b.PNG"]
    with pytest.raises(InputError, match="there are no images"):
        bench.find_images(folder / "c.png")
    with pytest.raises(InputError, match="cannot read the folder"):
        bench.find_images(folder / "absent")


def test_an_unusable_image_is_named(tmp_path: Path):
    path = tmp_path / "precise.tif"
    Image.new("F", (2, 2)).save(path)
    with pytest.raises(ImageError, match=r"precise\.tif: .*floating-point"):
        bench.load_image(path)


def test_unusable_images_are_skipped(folder: Path):
    (folder / "0 first.png").write_bytes(b"junk")
    Image.new("F", (30, 20)).save(folder / "ab.tif")
    told, calls = [], []
    measured = bench.measure_folder(
        PngCodec(),
        bench.find_images(folder),
        [10],
        progress=lambda *args: calls.append(args),
        notice=told.append,
    )
    assert [path.name for path in measured.paths] == ["a.bmp", "b.PNG"]
    assert [row.image for row in measured.images] == ["a.bmp", "b.PNG"]
    assert [skipped.image for skipped in measured.skipped] == ["0 first.png", "ab.tif"]
    assert told == list(measured.skipped)
    assert "floating-point" in told[1].reason
    assert calls == [(2, 4, measured.images[:1]), (4, 4, measured.images[1:])]


def test_an_image_that_comes_back_exactly_is_left_out(folder: Path):
    """Its PSNR is infinite, and would make every mean so."""
    Image.new("RGB", (40, 30), "white").save(folder / "flat.png")
    measured = bench.measure_folder(
        PngCodec(), bench.find_images(folder), [10, 90], peers=[PEERS["jpeg"]]
    )
    assert [path.name for path in measured.paths] == ["a.bmp", "b.PNG"]
    (skipped,) = measured.skipped
    assert skipped.image == "flat.png"
    assert skipped.reason.endswith("gives it back exactly, which has no PSNR")
    assert all(math.isfinite(row.psnr_db) for row in bench.summarise(measured.images))


def test_a_folder_without_any_usable_image(tmp_path: Path):
    (tmp_path / "one.png").write_bytes(b"junk")
    (tmp_path / "two.png").write_bytes(b"junk")
    with pytest.raises(ImageError, match=r"no image of 2 can be used; the first is one\.png: this"):
        bench.measure(PngCodec(), bench.find_images(tmp_path), [10])


def test_an_image_that_a_codec_cannot_hold_is_left_out_for_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else their means would be of different images."""
    codec = PngCodec()
    encode = codec.encode

    def refuse_grey(image: Raster, **options: object) -> bytes:
        if image.mode == 1:
            raise ImageError("too grey")
        return encode(image, **options)

    monkeypatch.setattr(codec, "encode", refuse_grey)
    peers = [PEERS["jpeg"]]
    measured = bench.measure_folder(codec, bench.find_images(folder), [10], peers=peers)
    assert {row.image for row in (*measured.images, *measured.peers)} == {"a.bmp"}
    assert measured.skipped == (bench.Skipped("b.PNG", "too grey"),)


def test_an_error_of_the_model_is_no_fault_of_an_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    codec = PngCodec()

    def fail(*_: object) -> Raster:
        raise ModelError("broken")

    monkeypatch.setattr(codec, "decode_raster", fail)
    with pytest.raises(ModelError):
        bench.measure(codec, bench.find_images(folder), [10])


@pytest.mark.parametrize(
    ("shape", "kind", "reason"),
    [
        ((20, 30, 4), np.uint8, "alpha"),
        ((20, 30, 3), np.uint16, "16 bits"),
        ((20, 30, 3), np.uint8, "needs 21 a side"),
    ],
)
def test_what_not_every_codec_takes(shape: tuple[int, ...], kind: type, reason: str):
    with pytest.raises(ImageError, match=reason):
        check_plain(from_array(np.zeros(shape, kind)), 21)
    check_plain(from_array(np.zeros((20, 30, 3), np.uint8)), 20)


def test_only_other_codecs_and_metrics_ask_for_plain_images(folder: Path):
    samples = np.full((20, 30, 4), 255, np.uint8)
    (folder / "clear.png").write_bytes(write_image(from_array(samples), ".png"))
    paths = bench.find_images(folder)
    assert not bench.measure_folder(PngCodec(), paths, [10]).skipped
    measured = bench.measure_folder(PngCodec(), paths, [10], peers=[PEERS["jpeg"]])
    assert [skipped.image for skipped in measured.skipped] == ["clear.png"]
    assert "only images without are measured" in measured.skipped[0].reason
    with pytest.raises(ImageError, match="needs 176 a side"):
        bench.measure_folder(PngCodec(), paths, [10], metrics=["psnr", "ms-ssim"])


def test_which_images_a_metric_cannot_take(folder: Path):
    """Those that cannot be measured in any case keep no metric from the others."""
    names = ["psnr", "ms-ssim", "ssimulacra2"]
    (folder / "0 first.png").write_bytes(b"junk")
    unfit = bench.unfit_images(bench.find_images(folder), names)
    assert unfit == {
        "ms-ssim": bench.Skipped("a.bmp", "it has 30x20 pixels, and a metric needs 176 a side")
    }

    samples = np.full((200, 200, 4), 255, np.uint8)
    (folder / "a clear.png").write_bytes(write_image(from_array(samples), ".png"))
    deep = samples[:, :, :1].astype(np.uint16)
    (folder / "a deep.png").write_bytes(write_image(from_array(deep), ".png"))
    paths = bench.find_images(folder)
    unfit = bench.unfit_images(paths, names)
    assert {name: skipped.image for name, skipped in unfit.items()} == {
        "ms-ssim": "a clear.png",
        "ssimulacra2": "a clear.png",
    }
    assert unfit["ssimulacra2"].reason.startswith("it has alpha")
    unfit = bench.unfit_images(paths[2:], names)
    assert unfit["ssimulacra2"].reason.startswith("it has 16 bits")
    unfit = bench.unfit_images(paths, names, [PEERS["jpeg"]])
    assert {name: skipped.image for name, skipped in unfit.items()} == {"ms-ssim": "a.bmp"}


def test_measure(folder: Path):
    codec, calls = PngCodec(), []
    paths = bench.find_images(folder)
    rows = bench.measure(codec, paths, [90, 10, 90], lambda *args: calls.append(args))
    assert calls == [(1, 2, tuple(rows[:2])), (2, 2, tuple(rows[2:]))]
    assert codec.encoded == [50, 10, 90, 10, 90]  # the first one loads the networks
    assert [(row.image, row.quality) for row in rows] == [
        ("a.bmp", 10),
        ("a.bmp", 90),
        ("b.PNG", 10),
        ("b.PNG", 90),
    ]
    for row, path in zip(rows, [paths[0], paths[0], paths[1], paths[1]], strict=True):
        image = read_image(path.read_bytes())
        data = codec.encode(image, quality=row.quality)
        assert (row.width, row.height, row.file_bytes) == (image.width, image.height, len(data))
        assert row.bpp == 8 * len(data) / 600
        assert row.psnr_db == fidelity_db(image, read_image(data))
        assert row.encode_s == 1.0
        assert row.decode_s >= 0.001
        assert row.estimate_error_percent == pytest.approx(25)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_measure_what_has_alpha(tmp_path: Path, kind: type):
    """Only the colours of what is seen count."""
    samples = np.random.default_rng(5).integers(0, 256, (20, 30, 4)).astype(kind)
    samples[:, :15, 3] = 0
    (tmp_path / "clear.png").write_bytes(write_image(from_array(samples), ".png"))
    (row,) = bench.measure(PngCodec(), bench.find_images(tmp_path), [10])
    seen = from_array(samples[:, 15:][samples[:, 15:, 3] > 0][np.newaxis, :, :3])
    coded = from_array(seen.read() // 19 * 19)
    assert row.psnr_db == pytest.approx(fidelity_db(seen, coded))


def test_the_image_for_speed_is_of_8_bits_and_opaque(tmp_path: Path):
    samples = np.random.default_rng(5).integers(0, 65_536, (20, 30, 4), np.uint16)
    (tmp_path / "deep.png").write_bytes(write_image(from_array(samples), ".png"))
    made = mosaic(bench.find_images(tmp_path), *sides(0.0006))
    assert made.bit_depth == 8
    width = min(30, made.width)
    np.testing.assert_array_equal(
        made.read()[:20, :width], (samples[: made.height, :width, :3] >> 8)
    )


def test_means_are_per_image():
    def row(name: str, quality: float, value: float) -> bench.ImageRow:
        figures = [factor * value for factor in (1, 10, 2, 3, 4)]
        return bench.ImageRow(name, quality, 1, 1, 1, *figures)

    rows = [row("a", 50, 1), row("a", 20, 5), row("b", 50, 2), row("b", 20, 8)]
    assert bench.summarise(rows) == (
        bench.QualityRow(20, 6.5, 65, 13, 19.5, 26),
        bench.QualityRow(50, 1.5, 15, 3, 4.5, 6),
    )
    assert bench.curve_of(bench.summarise(rows)) == [(6.5, 65), (1.5, 15)]


def test_speed(folder: Path, tiny_bundle: Path):
    bundle = find_bundle(tiny_bundle)
    found = bench.speed(
        bundle,
        "cpu",
        bench.find_images(folder),
        (0.003, 0.3),
        70,
        repeats=2,
    )
    assert (found.device, found.quality) == ("cpu", 70)
    small, large = found.sizes
    assert (small.width, small.height, large.width, large.height) == (63, 48, 632, 475)
    for row in found.sizes:
        for timing in (row.encode, row.decode):
            assert 0 < timing.memory_s < timing.file_s < timing.cold_s
            assert sum(timing.stages.values()) == pytest.approx(timing.file_s, rel=0.5)
            assert timing.ceiling_share is not None
            assert 0 < timing.ceiling_share < 1
    assert {"read", "image", "analysis", "prior", "entropy", "write"} <= set(small.encode.stages)
    assert {"read", "prior", "entropy", "synthesis", "write"} <= set(small.decode.stages)


def test_throughput(folder: Path, tiny_bundle: Path):
    found = bench.throughput(
        find_bundle(tiny_bundle),
        "cpu",
        bench.find_images(folder),
        size=(90, 70),
        processes=2,
        seconds=0.2,
    )
    assert (found.width, found.height, found.processes) == (90, 70, 2)
    assert 0.001 < found.encode < 100
    assert 0.001 < found.decode < 100


def test_no_process_waits_for_one_that_failed(folder: Path, tiny_bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    bundle = find_bundle(copy)
    (copy / "context_2.onnx").write_bytes(b"")
    with pytest.raises(ModelError):
        bench.throughput(
            bundle, "cpu", bench.find_images(folder), size=(90, 70), processes=2, seconds=0.2
        )


def test_a_manifest_that_tells_no_cost(folder: Path, tiny_bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    manifest = json.loads((copy / MANIFEST).read_text("utf-8"))
    (copy / MANIFEST).write_text(json.dumps(manifest | {"kmac_per_pixel": None}), "utf-8")
    found = bench.speed(
        find_bundle(copy),
        "cpu",
        bench.find_images(folder),
        (0.003,),
        repeats=1,
    )
    assert found.sizes[0].encode.ceiling_share is None


def test_the_graph_of_the_ceiling_is_what_the_factory_makes():
    stored = (Path(bench.__file__).parent / "convolution.onnx").read_bytes()
    assert stored == convolutions().SerializeToString()


def test_the_image_for_speed_is_tiled_without_gaps(folder: Path):
    paths = bench.find_images(folder)
    made = mosaic(paths, *sides(0.003)).read()
    corners = [bench.load_image(path).rgb()[:20, :20] for path in paths]
    np.testing.assert_array_equal(made[:20, :20], corners[0])
    np.testing.assert_array_equal(made[:20, 20:40], corners[1])
    np.testing.assert_array_equal(made[40:48, 60:63], corners[1][:8, :3])
    enough = mosaic(paths, *sides(0.0006)).read()  # one image does
    first = bench.load_image(paths[0]).rgb()
    np.testing.assert_array_equal(enough[:20], first[:20, : enough.shape[1]])


def test_the_image_for_speed_is_not_made_of_icons(folder: Path):
    rng = np.random.default_rng(6)
    Image.fromarray(rng.integers(0, 256, (256, 300, 3), np.uint8)).save(folder / "photo.png")
    paths = bench.find_images(folder)
    made = mosaic(paths, *sides(0.1)).read()
    np.testing.assert_array_equal(made[:256, :300], bench.load_image(paths[-1]).rgb())


@pytest.mark.parametrize(
    ("megapixels", "repeats"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (1, 0)]
)
def test_speed_of_nothing(folder: Path, tiny_bundle: Path, megapixels: float, repeats: int):
    paths = bench.find_images(folder)
    with pytest.raises(ValueError, match="at least one repeat"):
        bench.speed(find_bundle(tiny_bundle), "cpu", paths, (megapixels,), repeats=repeats)


def test_with_a_real_codec(folder: Path, tiny_bundle: Path):
    codec = Codec(tiny_bundle)
    paths = bench.find_images(folder)
    rows = bench.measure(codec, paths, [80])
    assert [row.file_bytes for row in rows] == [
        len(codec.encode(read_image(path.read_bytes()), quality=80, strip=KINDS)) for path in paths
    ]
    assert all(row.encode_s > 0 and row.decode_s > 0 for row in rows)
    # On images this small the header and the words' ends weigh, and a file is never smaller.
    assert all(row.estimate_error_percent > 0 for row in rows)


def test_metrics_go_into_the_rows_of_all_codecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vaecodec.bench.measuring.ssimulacra2", lambda one, other: 42.0)
    samples = np.random.default_rng(5).integers(0, 256, (176, 180, 1), np.uint8)
    (tmp_path / "grey.png").write_bytes(write_image(from_array(samples), ".png"))
    measured = bench.measure_folder(
        PngCodec(),
        bench.find_images(tmp_path),
        [10, 90],
        peers=[PEERS["jpeg"]],
        metrics=["psnr", "ms-ssim", "ssimulacra2"],
    )
    coarse, fine = measured.images
    assert coarse.ms_ssim is not None
    assert fine.ms_ssim is not None
    assert coarse.ms_ssim < fine.ms_ssim < 1
    assert {row.ssimulacra2 for row in (*measured.images, *measured.peers)} == {42.0}
    ascending = [row.ms_ssim for row in measured.peers]
    assert ascending == sorted(ascending)
    mean = bench.summarise(measured.images)[0]
    assert (mean.ms_ssim, mean.ssimulacra2) == (coarse.ms_ssim, 42.0)


def test_several_processes_measure_the_same(folder: Path, tiny_bundle: Path):
    (folder / "broken.jpg").write_bytes(b"no image")
    paths = bench.find_images(folder)
    codec = Codec(tiny_bundle)
    peers = choose_peers(["jpeg", f"bundle:{tiny_bundle}"])
    measured = [
        bench.measure_folder(codec, paths, [20, 60], peers=peers, processes=count)
        for count in (1, 2)
    ]
    timeless = [
        [replace(row, encode_s=0.0, decode_s=0.0) for row in (*one.images, *one.peers)]
        for one in measured
    ]
    assert timeless[0] == timeless[1]
    assert measured[0].paths == measured[1].paths
    assert measured[0].skipped == measured[1].skipped
    assert [one.image for one in measured[1].skipped] == ["broken.jpg"]


def test_the_table():
    blocks = text_table(make_report()).split("\n\n")
    assert blocks[0].splitlines() == [
        "tiny (00ff00ff00ff00ff), means over 1 images",
        "quality      bpp  psnr_db ms_ssim_db  encode_s  decode_s  estimate",
        "   10.0   0.2000   26.000      3.010     0.100     0.200    +1.00%",
        "   90.0   2.0000   35.000     13.010     0.100     0.200    +1.00%",
    ]
    assert blocks[1].splitlines()[:3] == [
        "JPEG (libjpeg 1): 4:4:4",
        "quality      bpp  psnr_db ms_ssim_db  encode_s  decode_s",
        "   5.00   0.3000   21.500      1.761     0.010     0.020",
    ]
    assert blocks[3].splitlines() == [
        "BD-rate (PSNR) against the codecs measured here",
        "  JPEG   -31.25%  over 25.00 to 35.00 dB",
        "  WebP    +7.50%  over 25.00 to 35.00 dB",
        "BD-rate (MS-SSIM) against the codecs measured here",
        "  JPEG    +4.00%  over 5.00 to 12.00 dB",
        "  WebP  the curves do not overlap",
    ]
    assert blocks[4].splitlines() == [
        "BD-rate (PSNR) against",
        "  vtm   +12.50%  over 30.00 to 40.00 dB",
        "  far  too far",
    ]


def test_the_table_of_bits_at_scores():
    gains = [
        *(bench.ScoreGain("jpeg", 50, -31.25), bench.ScoreGain("jpeg", 90, 104.0)),
        *(bench.ScoreGain("webp", 50, 7.5), bench.ScoreGain("webp", 90, None)),
    ]
    report = replace(make_report(), score_gains=tuple(gains))
    assert text_table(report).split("\n\n")[4].splitlines() == [
        "Bits of ours at SSIMULACRA 2 scores, against the codecs measured here",
        "              50        90",
        "  JPEG   -31.25%  +104.00%",
        "  WebP    +7.50%         -",
    ]
    assert "a dash stands where either" in method_section(report)
    assert "a dash stands where either" not in method_section(make_report())


def test_the_table_of_speed():
    encode = bench.Timing(
        cold_s=1.25,
        file_s=0.5,
        memory_s=0.4,
        stages={
            "read": 0.06,
            "image": 0.01,
            "analysis": 0.25,
            "prior": 0.09,
            "rest": 0.05,
            "write": 0.04,
        },
        ceiling_share=0.754,
        peak_bytes=210_000_000,
    )
    decode = bench.Timing(1.5, 0.6, 0.3, {"read": 0.1, "synthesis": 0.2, "write": 0.2})
    row = bench.SizeRow(1000, 800, 10, encode, decode)
    whole = bench.Throughput(1920, 1080, 16, 1, 70.5, 123.0)
    timed = replace(make_report(), speed=bench.Speed("cpu", 50, 80.25e9, (row,), whole))
    *lines, last = text_table(timed).splitlines()[-6:]
    assert lines[0].endswith("convolutions reach 80.2 GMAC/s here")
    titles, figures = (line.split() for line in lines[1:3])
    assert dict(zip(titles[1:], figures[1:], strict=True)) == {
        "cold_s": "1.25",
        "file_ms": "500",
        "memory_ms": "400",
        "MP/s": "2.00",
        "read": "60",
        "analysis": "250",
        "prior": "90",
        "entropy": "0",
        "other": "60",
        "write": "40",
        "ceiling": "75%",
        "peak_MB": "210",
    }
    assert lines[4].split()[-2:] == ["-", "-"]
    assert "16 at a time" in last
    assert last.endswith("70.50 MP/s encoded, 123.00 decoded")
    assert "1000x800 in 0.400 and 0.300 s" in method_section(timed)


def test_the_machine_is_told():
    told = describe_machine("cuda")
    assert " cores, networks on cuda, Python 3." in told
    assert "numpy " in told
