from __future__ import annotations

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support import SAMPLES

from vaecodec import bench
from vaecodec.bench.gains import compare_at_scores, compare_peers
from vaecodec.bench.peers import Peer, choose_peers
from vaecodec.bench.pillow_peers import PEERS
from vaecodec.errors import ImageError, RuntimeUnavailableError
from vaecodec.metrics import psnr_db

INSTALLED = choose_peers(["installed"])
NAMES = [peer.name for peer in INSTALLED]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return np.asarray(image.convert("RGB").crop((300, 200, 428, 296)))


@pytest.mark.parametrize("peer", INSTALLED, ids=NAMES)
def test_sizes_and_fidelity_ascend_with_quality(peer: Peer, photo: np.ndarray):
    files = [peer.encode(photo, quality) for quality in peer.ladder]
    sizes = [len(file) for file in files]
    assert sizes == sorted(set(sizes))
    fidelities = [psnr_db(photo, peer.decode(file, 3)) for file in files]
    assert fidelities == sorted(set(fidelities))
    assert fidelities[0] < 33
    assert fidelities[-1] > 35


@pytest.mark.parametrize("peer", INSTALLED, ids=NAMES)
def test_grey_comes_back_grey(peer: Peer, photo: np.ndarray):
    grey = photo[:, :, :1]
    decoded = peer.decode(peer.encode(grey, peer.ladder[-1]), 1)
    assert decoded.shape == grey.shape
    assert psnr_db(grey, decoded) > 35


@pytest.mark.parametrize("peer", INSTALLED, ids=NAMES)
def test_a_codec_tells_its_library(peer: Peer):
    info = peer.info()
    assert (info.name, info.title) == (peer.name, peer.title)
    assert any(letter.isdigit() for letter in info.library)


def test_ladders_have_points_for_bd_rate_and_lie_within_the_span():
    for peer in PEERS.values():
        assert len(peer.ladder) == 8
        assert list(peer.ladder) == sorted(set(peer.ladder))
        assert set(peer.ladder) <= set(peer.qualities())
        assert (peer.qualities()[0], peer.qualities()[-1]) == peer.span


def test_jpeg_keeps_all_chroma(photo: np.ndarray):
    with Image.open(io.BytesIO(PEERS["jpeg"].encode(photo, 50))) as image:
        assert {(sampling[1], sampling[2]) for sampling in image.layer} == {(1, 1)}


@pytest.mark.parametrize("peer", INSTALLED, ids=NAMES)
def test_noise_is_no_broken_data_stream(peer: Peer):
    noise = np.random.default_rng(5).integers(0, 256, (256, 256, 3), np.uint8)
    files = [peer.encode(noise, quality) for quality in peer.ladder]
    assert len(files[-1]) > noise.size / 4


@pytest.mark.skipif("avif" not in NAMES, reason="no AVIF in this Pillow")
def test_grey_in_avif_has_no_chroma(photo: np.ndarray):
    avif = PEERS["avif"]
    grey = photo[:, :, :1]
    coloured = replace(avif, grey_options={})
    assert len(avif.encode(grey, 15)) < len(coloured.encode(grey, 15))


@pytest.mark.skipif("avif" not in NAMES, reason="no AVIF in this Pillow")
def test_avif_files_are_the_same_on_any_number_of_cores():
    samples = np.zeros((1024, 1024, 3), np.uint8)
    samples[:, :, 0] = np.hypot(*np.indices((1024, 1024))) % 256
    avif = PEERS["avif"]
    tiled = replace(avif, options=lambda quality: avif.options(quality) | {"autotiling": True})
    assert avif.options(50)["autotiling"] is False
    assert len(avif.encode(samples, 15)) <= len(tiled.encode(samples, 15))


@pytest.mark.skipif("avif-psnr" not in NAMES, reason="no libaom in this Pillow")
def test_avif_is_tuned_for_psnr_and_differs_in_nothing_else(photo: np.ndarray):
    default, tuned = PEERS["avif"], PEERS["avif-psnr"]
    untuned = replace(tuned, options=lambda quality: tuned.options(quality) | {"advanced": {}})
    files = [peer.encode(photo, 50) for peer in (default, untuned, tuned)]
    assert files[0] == files[1] != files[2]
    assert "default tuning" in default.settings
    assert default.ladder == tuned.ladder


def test_pillow_without_libaom(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("PIL._avif")
    monkeypatch.setattr("PIL._avif.encoder_codec_available", lambda name: name != "aom")
    with pytest.raises(RuntimeUnavailableError, match="without libaom"):
        choose_peers(["avif", "avif-psnr"])
    assert "avif-psnr" not in [peer.name for peer in choose_peers(["installed"])]


def test_jpeg_2000_turns_colours(photo: np.ndarray):
    """What Pillow does not by default: the files would be far larger."""
    plain = io.BytesIO()
    Image.fromarray(photo).save(
        plain, "JPEG2000", quality_mode="dB", quality_layers=[34], irreversible=True
    )
    assert len(PEERS["jpeg2000"].encode(photo, 34)) < 0.8 * len(plain.getvalue())


def test_what_a_codec_cannot_hold():
    with pytest.raises(ImageError, match="WebP cannot hold it"):
        PEERS["webp"].encode(np.zeros((1, 16_385, 3), np.uint8), 50)
    with pytest.raises(ImageError, match="JPEG cannot read its own file"):
        PEERS["jpeg"].decode(b"junk", 3)


def test_choice():
    assert [peer.name for peer in choose_peers(["webp", "jpeg", "webp"])] == ["webp", "jpeg"]
    assert {"jpeg", "webp"} <= set(NAMES) <= set(PEERS)
    with pytest.raises(ValueError, match="gif is none of jpeg, webp"):
        choose_peers(["jpeg", "gif"])


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("jxl", "pillow_jxl", "pillow-jxl-plugin"), ("heic", "pillow_heif", "pillow-heif")],
)
def test_a_missing_plugin(name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)
    for asked in (name, "all"):
        with pytest.raises(RuntimeUnavailableError):
            choose_peers([asked])
    with pytest.raises(RuntimeUnavailableError) as caught:
        choose_peers([name])
    assert caught.value.pip_line == f"pip install {package}"
    assert name not in [peer.name for peer in choose_peers(["installed"])]


def test_pillow_without_a_codec(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vaecodec.bench.pillow_peers.features.check", lambda feature: False)
    with pytest.raises(RuntimeUnavailableError, match="AVIF is not in this Python"):
        choose_peers(["avif"])


def test_means_of_peers():
    def row(codec: str, image: str, quality: float, value: float) -> bench.PeerRow:
        figures = [factor * value for factor in (1, 10, 2, 3, 0.1)]
        return bench.PeerRow(codec, image, quality, 1, 1, 1, *figures)

    rows = [row("webp", "a", 5, 1), row("jpeg", "a", 9, 4), row("jpeg", "a", 5, 1)]
    rows += [row("webp", "b", 5, 3), row("jpeg", "b", 9, 6), row("jpeg", "b", 5, 2)]
    means = bench.summarise_peers(rows)
    assert [(mean.codec, mean.quality) for mean in means] == [("webp", 5), ("jpeg", 5), ("jpeg", 9)]
    assert (means[2].bpp, means[2].psnr_db, means[2].encode_s, means[2].decode_s) == (5, 50, 10, 15)
    assert means[2].ms_ssim == pytest.approx(0.5)
    assert means[2].ssimulacra2 is None
    assert bench.curve_of(means[1:]) == [(1.5, 15), (5, 50)]
    assert bench.curve_of(means[1:], "ssimulacra2") == []
    assert bench.curve_of(means[1:], "ms-ssim") == [
        (1.5, pytest.approx(0.7058, abs=1e-4)),
        (5, pytest.approx(3.0103, abs=1e-4)),
    ]


def test_gains_take_the_other_codec_as_the_anchor():
    curve = [(0.1, 27.0, 20.0), (0.3, 30.0, 50.0), (0.9, 35.0, 80.0)]
    ours = [bench.QualityRow(r, r, d, 1, 1, 0, None, s) for r, d, s in curve]
    peers = [bench.PeerMean("jpeg", r, 1.25 * r, d, 1, 1, None, s) for r, d, s in curve]
    peers += [bench.PeerMean("webp", r, r, d + 20, 1, 1, None, s + 70) for r, d, s in curve]
    gains = compare_peers(ours, peers, ["psnr", "ms-ssim", "ssimulacra2"])
    assert [(gain.codec, gain.metric) for gain in gains] == [
        (codec, metric)
        for metric in ("psnr", "ms-ssim", "ssimulacra2")
        for codec in ("jpeg", "webp")
    ]
    assert [gains[index].percent for index in (0, 4)] == pytest.approx([-20, -20])
    assert (gains[4].low, gains[4].high) == (20, 80)
    assert "two usable points" in gains[2].problem
    assert gains[1].percent is None
    assert gains[1].problem.endswith("47.00 to 55.00 dB and 27.00 to 35.00 dB")
    assert gains[5].problem.endswith("90.00 to 150.00 and 20.00 to 80.00")


def test_bits_at_fixed_scores():
    """Only where both codecs reach the score."""
    curve = [(0.1, 27.0, 45.0), (0.3, 30.0, 65.0), (0.9, 35.0, 85.0)]
    ours = [bench.QualityRow(r, r, d, 1, 1, 0, None, s) for r, d, s in curve]
    peers = [bench.PeerMean("jpeg", r, 1.25 * r, d, 1, 1, None, s) for r, d, s in curve]
    peers += [bench.PeerMean("webp", r, r / 2, d, 1, 1, None, s + 12) for r, d, s in curve]
    peers += [bench.PeerMean("heic", r, r, d, 1, 1, None, s) for r, d, s in curve[:1]]
    gains = compare_at_scores(ours, peers, ["psnr", "ssimulacra2"])
    assert [gain.score for gain in gains] == 3 * [50, 70, 80, 90]
    assert [gain.codec for gain in gains] == 4 * ["jpeg"] + 4 * ["webp"] + 4 * ["heic"]
    percents = [gain.percent for gain in gains]
    assert percents[:3] == pytest.approx([-20, -20, -20])
    assert percents[4] is None  # where WebP does not go so low
    assert percents[5:7] == pytest.approx(2 * [100 * (2 * 3**0.6 - 1)])  # 20 points are 3 times
    assert percents[3] is percents[7] is None
    assert percents[8:] == [None] * 4
    assert compare_at_scores(ours, peers, ["psnr", "ms-ssim"]) == ()
    assert compare_at_scores(ours, [], ["psnr", "ssimulacra2"]) == ()
