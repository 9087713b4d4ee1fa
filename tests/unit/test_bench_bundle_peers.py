"""Other bundles of ours as codecs of the bench."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden.test_golden import V1
from PIL import Image
from support import SAMPLES

from vaecodec import bench
from vaecodec.bench.bits import BitCounter
from vaecodec.bench.bundle_peers import BundlePeer
from vaecodec.bench.peers import choose_peers
from vaecodec.bench.pillow_peers import PEERS
from vaecodec.bench.sights import crops_section
from vaecodec.bench.views import view
from vaecodec.codec import Codec
from vaecodec.errors import ModelNotFoundError, RuntimeUnavailableError
from vaecodec.raster import from_array

NAME = f"bundle:{V1 / 'bundle'}"


@pytest.fixture(scope="module")
def peer() -> BundlePeer:
    (peer,) = choose_peers([NAME])
    assert isinstance(peer, BundlePeer)
    return peer


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return np.asarray(image.convert("RGB").crop((300, 200, 428, 296)))


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_those_of_the_codec(peer: BundlePeer, photo: np.ndarray, channels: int):
    samples = photo[:, :, :channels]
    codec = Codec(V1 / "bundle")
    data = peer.encode(samples, 60)
    assert data == codec.encode(from_array(samples), quality=60)
    decoded = peer.decode(data, channels)
    assert decoded.shape == samples.shape
    assert np.array_equal(decoded, codec.decode_raster(data).read().reshape(samples.shape))


def test_it_tells_its_bundle(peer: BundlePeer):
    model_id = Codec(V1 / "bundle").bundle.model_id.hex()
    info = peer.info()
    assert (info.name, info.title) == (NAME, f"tiny {model_id[:8]}")
    assert info.library == f"tiny test, model {model_id}"
    assert info.settings == "another bundle of vaecodec; its quality"


def test_the_ladder_is_that_of_ours(peer: BundlePeer):
    assert peer.ladder == bench.DEFAULT_QUALITIES
    qualities = peer.qualities()
    assert set(peer.ladder) < set(qualities)
    assert qualities == sorted(set(qualities))
    assert (qualities[0], qualities[-1]) == (0, 100)


def test_choice_keeps_the_order_and_takes_a_bundle_once():
    names = [peer.name for peer in choose_peers(["webp", NAME, "jpeg", NAME])]
    assert names == ["webp", NAME, "jpeg"]
    names = [peer.name for peer in choose_peers([NAME, "installed"])]
    assert names[0] == NAME
    assert set(names[1:]) <= set(PEERS)
    for everything in ("installed", "all"):
        try:
            chosen = choose_peers([everything])
        except RuntimeUnavailableError:  # a format of `all` is not in this Python
            continue
        assert not any(isinstance(peer, BundlePeer) for peer in chosen)


def test_bundles_of_one_name_are_told_apart(tmp_path: Path, tiny_bundle: Path):
    """Those of one model id, too: it says nothing of the encoder."""
    copy = shutil.copytree(V1 / "bundle", tmp_path / "copy")
    names = [NAME, f"bundle:{copy}"]
    same = choose_peers(names)
    assert [peer.name for peer in same] == names
    short_id = Codec(copy).bundle.model_id.hex()[:8]
    assert [peer.title for peer in same] == [
        f"tiny {short_id} ({V1 / 'bundle'})",
        f"tiny {short_id} ({copy})",
    ]
    if Codec(tiny_bundle).bundle.model_id != Codec(copy).bundle.model_id:
        titles = [peer.title for peer in choose_peers([NAME, f"bundle:{tiny_bundle}"])]
        assert titles[0] == f"tiny {short_id}" != titles[1]


def test_a_folder_in_the_home_directory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(V1))
    monkeypatch.setenv("USERPROFILE", str(V1))
    (peer,) = choose_peers(["bundle:~/bundle"])
    assert (peer.name, peer.title[:5]) == ("bundle:~/bundle", "tiny ")


def test_bundles_that_are_not_there(tmp_path: Path):
    with pytest.raises(ModelNotFoundError, match="no bundle named nonesuch"):
        choose_peers(["jpeg", "bundle:nonesuch"])
    with pytest.raises(ModelNotFoundError, match="is no bundle"):
        choose_peers([f"bundle:{tmp_path}"])
    with pytest.raises(ValueError, match="bundle: is followed by no name"):
        choose_peers(["bundle:"])
    with pytest.raises(ValueError, match=r"tiny is none of jpeg, .*, bundle:NAME, all, installed"):
        choose_peers(["tiny"])


def test_the_networks_run_where_ours_do(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr("vaecodec.codec.load_onnxruntime", asked.append)
    monkeypatch.setattr("vaecodec.codec.LatentCoder", lambda *_: None)
    monkeypatch.setattr("vaecodec.codec.FileReader", lambda *_: None)
    monkeypatch.setattr(
        "vaecodec.codec._TRANSFORMS", dict.fromkeys(("cpu", "cuda"), lambda *_: None)
    )
    choose_peers([NAME], "cuda")
    choose_peers([NAME])
    assert asked == ["cuda", "cpu"]


def test_against_itself_rows_are_the_same(tmp_path: Path, tiny_bundle: Path, photo: np.ndarray):
    pytest.importorskip("scipy")
    Image.fromarray(photo).save(tmp_path / "colour.png")
    Image.fromarray(photo[:, :, 1]).save(tmp_path / "grey.png")
    peers = choose_peers([f"bundle:{tiny_bundle}"])
    codec = Codec(tiny_bundle)
    measured = bench.measure_folder(codec, bench.find_images(tmp_path), peers=peers)
    ours = [(row.image, row.quality, row.file_bytes, row.psnr_db) for row in measured.images]
    theirs = [(row.image, row.quality, row.file_bytes, row.psnr_db) for row in measured.peers]
    assert len(ours) == 16
    assert ours == theirs
    means = bench.summarise(measured.images)
    (gain,) = bench.compare_peers(means, bench.summarise_peers(measured.peers), ["psnr"])
    assert gain.percent == pytest.approx(0, abs=1e-9)


def test_crops_are_at_equal_size(tmp_path: Path, peer: BundlePeer, photo: np.ndarray):
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    odd = replace(peer, name='bundle:"<odd>&')  # a folder may be called so
    shown = view(peer.codec, BitCounter(peer.codec.bundle), path, 57, [odd])
    ours, other = shown.versions[1:]
    assert (other.codec, other.title) == (odd.name, peer.title)
    assert other.quality == pytest.approx(57, abs=0.5)
    assert other.file_bytes == ours.file_bytes
    text = crops_section([shown])
    assert "<odd>" not in text
    assert text.count('"bundle:&quot;&lt;odd&gt;&amp;"') == 3  # a source, an option on each side
