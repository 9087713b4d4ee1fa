from __future__ import annotations

import io
import multiprocessing
import pickle
import shutil
import struct
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import vaecodec
from vaecodec.bundle import PATCH
from vaecodec.codec import Codec
from vaecodec.container import Container, Header, Mode, pack, unpack
from vaecodec.errors import (
    CorruptError,
    FormatError,
    ImageError,
    InsufficientMemoryError,
    LimitError,
    ModelMismatchError,
    RuntimeUnavailableError,
)
from vaecodec.limits import Limits
from vaecodec.metrics import psnr_db
from vaecodec.runtime import Network
from vaecodec.segments import Box, tiles
from vaecodec.trace import Trace

SAMPLES = Path(__file__).parents[2] / "samples"
PHOTOGRAPHS = sorted(path for path in SAMPLES.iterdir() if path.suffix in (".jpg", ".png"))


@pytest.fixture(scope="module")
def codec(tiny_bundle: Path) -> Codec:
    return Codec(tiny_bundle)


@pytest.fixture(scope="module")
def base() -> Codec:
    return Codec("base")


def photograph(width: int, height: int, mode: str = "RGB") -> Image.Image:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return image.crop((300, 200, 300 + width, 200 + height)).convert(mode)


def test_six_samples():
    assert len(PHOTOGRAPHS) >= 6


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_every_sample_comes_back(base: Codec, path: Path):
    with Image.open(path) as image:
        image.load()
    sizes, fidelities = [], []
    for quality in (10, 50, 90):
        data = base.encode(image, quality=quality)
        decoded = base.decode(data)
        assert (decoded.size, decoded.mode) == (image.size, image.mode)
        sizes.append(len(data))
        fidelities.append(psnr_db(np.asarray(image), np.asarray(decoded)))
    assert sizes == sorted(sizes)
    assert fidelities == sorted(fidelities)
    assert fidelities[0] > 19
    assert fidelities[2] > 32


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_every_sample_is_better_than_a_jpeg_of_its_size(base: Codec, path: Path):
    with Image.open(path) as image:
        image.load()
    data = base.encode(image, quality=40)
    ours = psnr_db(np.asarray(image), np.asarray(base.decode(data)))
    theirs = 0.0
    for quality in range(1, 96):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if len(buffer.getvalue()) > len(data):
            break
        with Image.open(buffer) as decoded:
            theirs = psnr_db(np.asarray(image), np.asarray(decoded))
    assert theirs > 20
    assert ours > theirs


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_size_for_the_padding(codec: Codec, mode: str):
    for n in range(1, 71):
        for width, height in ((n, n), (n, 71 - n)):
            image = photograph(width, height, mode)
            decoded = codec.decode(codec.encode(image, quality=100))
            assert (decoded.size, decoded.mode) == (image.size, mode)
            assert psnr_db(np.asarray(image), np.asarray(decoded)) > 15


def test_encoding_is_deterministic_and_thread_counts_do_not_matter(tiny_bundle: Path):
    image = photograph(200, 150)
    one, two = (Codec(tiny_bundle, threads=threads) for threads in (1, 2))
    data = one.encode(image, quality=70)
    assert one.encode(image, quality=70) == data
    difference = np.asarray(one.decode(data)).astype(int) - np.asarray(two.decode(data))
    assert np.abs(difference).max() <= 1


def test_every_optimisation_level_decodes_the_same_symbols(
    base: Codec, monkeypatch: pytest.MonkeyPatch
):
    """Reading checks the symbols' CRC, so a decoding that succeeds has every symbol right."""
    image = photograph(333, 222)
    files = [base.encode(image, quality=quality) for quality in (5, 40, 95)]
    ordinary = onnxruntime.SessionOptions
    for level in onnxruntime.GraphOptimizationLevel.__members__.values():

        def options(level=level):
            made = ordinary()
            made.graph_optimization_level = level
            return made

        monkeypatch.setattr(onnxruntime, "SessionOptions", options)
        for threads in (1, 2):
            codec = Codec("base", threads=threads)
            for data in files:
                difference = np.asarray(codec.decode(data)).astype(int) - np.asarray(
                    base.decode(data)
                )
                assert np.abs(difference).max() <= 1


def test_the_estimate_is_near_the_size(base: Codec):
    image = photograph(512, 384)
    trace = Trace()
    data = base.encode(image, quality=60, trace=trace)
    assert trace.estimated_bits / 8 == pytest.approx(len(data), rel=0.02)
    assert set(trace.seconds) == {"image", "analysis", "prior", "entropy", "container"}


def test_extreme_pixels_survive(codec: Codec):
    rng = np.random.default_rng(0)
    for pixels in (
        np.zeros((40, 40, 3), np.uint8),
        np.full((40, 40, 3), 255, np.uint8),
        rng.integers(0, 2, (40, 40, 3)).astype(np.uint8) * 255,
    ):
        for quality in (0, 100):
            decoded = codec.decode(codec.encode(Image.fromarray(pixels), quality=quality))
            assert decoded.size == (40, 40)


def test_any_truncation_and_any_bit_flip_is_refused(codec: Codec):
    data = codec.encode(photograph(20, 17), quality=30)
    assert len(data) < 2000
    for length in range(len(data)):
        with pytest.raises(FormatError):
            codec.decode(data[:length])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, LimitError)):
            codec.decode(bytes(damaged))


def test_damage_below_valid_checksums_is_refused(codec: Codec):
    """With the container's CRCs made right again, the symbols' own checks remain."""
    container = unpack(codec.encode(photograph(40, 30), quality=50))
    rng = np.random.default_rng(1)
    for _ in range(200):
        payload = bytearray(container.latents[0])
        payload[rng.integers(len(payload))] ^= 1 << int(rng.integers(8))
        damaged = pack(Container(container.header, (bytes(payload),)))
        with pytest.raises(FormatError):
            codec.decode(damaged)


def test_a_few_bytes_do_not_claim_a_large_image(base: Codec, monkeypatch: pytest.MonkeyPatch):
    """An empty coder gives symbols for ever; it is refused before any network runs."""
    monkeypatch.setattr(Network, "__call__", lambda *_: pytest.fail("a network was run"))
    for level in (0, 8000, 63 * 256):
        header = Header(8192, 4096, Mode.RGB, 8, level, base.bundle.model_id)
        payload = struct.pack("<IIII", 0, 2, 1, 1)
        with pytest.raises(CorruptError, match="too short for an image of this size"):
            base.decode(pack(Container(header, (payload,) * header.segments)))


def test_another_model_is_named(codec: Codec, base: Codec):
    data = codec.encode(photograph(30, 30))
    with pytest.raises(ModelMismatchError, match=codec.bundle.model_id.hex()):
        base.decode(data)


def test_what_cannot_be_encoded_is_refused(codec: Codec):
    with pytest.raises(ImageError, match="floating-point"):
        codec.encode(photograph(30, 30).convert("F"))
    with pytest.raises(ValueError, match="quality"):
        codec.encode(photograph(30, 30), quality=101)


def test_wrong_arguments_are_named(codec: Codec):
    with pytest.raises(TypeError, match="PIL image"):
        codec.encode("photograph.jpg")  # type: ignore[arg-type]
    data = codec.encode(photograph(30, 30))
    for wrong in ("photograph.vaec", io.BytesIO(data), None):
        for decode in (codec.decode, codec.preview, vaecodec.decode):
            with pytest.raises(TypeError, match="bytes of a file"):
                decode(wrong)  # type: ignore[arg-type]
    for kind in (bytearray, memoryview):
        assert codec.decode(kind(data)).size == (30, 30)
    with pytest.raises(TypeError, match=r"must be a vaecodec\.Box"):
        codec.decode(data, region=(0, 0, 5, 5))  # type: ignore[arg-type]


def test_limits_hold_in_both_directions(tiny_bundle: Path, codec: Codec):
    small = Codec(tiny_bundle, limits=Limits(max_pixels=899))
    with pytest.raises(LimitError):
        small.encode(photograph(30, 30))
    with pytest.raises(LimitError):
        small.decode(codec.encode(photograph(30, 30)))
    little = Codec(tiny_bundle, limits=Limits(max_memory_bytes=2**20))
    with pytest.raises(LimitError, match="memory"):
        little.encode(photograph(30, 30))
    with pytest.raises(LimitError, match="memory"):
        little.decode(codec.encode(photograph(30, 30)))


def test_devices_that_are_not_there_are_not_replaced_in_silence(tiny_bundle: Path):
    with pytest.raises(ValueError, match="known: cpu, cuda"):
        Codec(tiny_bundle, device="tpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(RuntimeUnavailableError, match="pip"):
            Codec(tiny_bundle, device="cuda")


@pytest.mark.parametrize("threads", [-3, 0])
def test_threads_are_one_or_more(tiny_bundle: Path, threads: int):
    with pytest.raises(ValueError, match=f"not {threads}"):
        Codec(tiny_bundle, threads=threads)


def test_a_codec_goes_to_another_process(codec: Codec, tiny_bundle: Path):
    limits = Limits(max_pixels=2_000)
    sent = Codec(tiny_bundle, threads=1, limits=limits)
    image = photograph(30, 30)
    assert sent.encode(image) == codec.encode(image)  # with its networks loaded
    copy = pickle.loads(pickle.dumps(sent))  # noqa: S301  # our own
    assert (copy.limits, copy._threads, copy._device) == (limits, 1, "cpu")
    assert copy.bundle.model_id == sent.bundle.model_id
    assert copy.encode(image) == sent.encode(image)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(sent.encode, np.asarray(image)).result() == sent.encode(
            np.asarray(image)
        )


def test_too_little_memory_is_said_so(codec: Codec, monkeypatch: pytest.MonkeyPatch):
    data = codec.encode(photograph(30, 30))

    def numpy_fails(*_: object) -> None:
        raise MemoryError

    def onnxruntime_fails(*_: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 99")

    for fails in (numpy_fails, onnxruntime_fails):
        broken = Codec(codec.bundle)
        broken.decode(data)
        session = type("S", (), dict.fromkeys(("run", "io_binding"), fails))
        monkeypatch.setattr(broken._transforms.network("decoder"), "_session", session)
        with pytest.raises(InsufficientMemoryError, match="memory"):
            broken.decode(data)


def test_a_folder_of_the_bundles_name_is_not_the_bundle(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(tiny_bundle, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    assert Codec("base").bundle.name == "base"
    for path in ("./base", Path("base"), tmp_path / "base"):
        assert Codec(path).bundle.name == "tiny"


def test_the_package_level_functions():
    image = photograph(100, 80)
    decoded = vaecodec.decode(vaecodec.encode(image, quality=80))
    assert decoded.size == image.size


# Modes


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 63, 64, 65, 257])
def test_every_mode_comes_back(base: Codec, mode: str, size: int):
    image = photograph(size, size)
    if mode == "I;16":
        deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
        image = Image.fromarray(deep)
    elif mode.endswith("A"):
        image = image.convert(mode)
        image.putalpha(
            Image.fromarray(np.random.default_rng(size).integers(0, 256, (size, size), np.uint8))
        )
    decoded = base.decode(base.encode(image, quality=80))
    assert (decoded.mode, decoded.size) == (image.mode, image.size)
    one, other = np.asarray(image), np.asarray(decoded)
    if mode.endswith("A"):
        np.testing.assert_array_equal(one[..., -1], other[..., -1])
        seen = one[..., -1] > 0
        one, other = one[seen][:, :-1], other[seen][:, :-1]
    assert psnr_db(one, other) > 32


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_of_every_kind_come_back(base: Codec, channels: int, dtype: type):
    pixels = np.asarray(photograph(70, 50)).astype(dtype) * (257 if dtype is np.uint16 else 1)
    alpha = (np.add.outer(np.arange(50), np.arange(70)) * np.iinfo(dtype).max // 120).astype(dtype)
    colours = pixels[:, :, :1] if channels < 3 else pixels
    array = np.dstack([colours, alpha]) if channels in (2, 4) else colours
    decoded = base.decode_raster(base.encode(array, quality=80)).read()
    assert (decoded.shape, decoded.dtype) == (array.shape, dtype)
    count = colours.shape[2]
    np.testing.assert_array_equal(decoded[:, :, count:], array[:, :, count:])
    # An image compared with a scaled one: the noise of 16 bits must not be that of 8.
    seen = alpha > 0 if channels in (2, 4) else np.ones_like(alpha, bool)
    assert psnr_db(array[seen][:, :count], decoded[seen][:, :count]) > 32


def test_sixteen_bits_are_not_eight_times_257(base: Codec):
    ramp = np.linspace(20_000, 30_000, 128 * 128).reshape(128, 128).astype(np.uint16)
    decoded = base.decode_raster(base.encode(ramp, quality=100)).read()[:, :, 0]
    assert len(np.unique(decoded)) > 1000
    assert psnr_db(ramp, decoded) > 45


def test_colour_of_sixteen_bits_needs_an_array(codec: Codec):
    data = codec.encode(np.zeros((9, 9, 3), np.uint16))
    with pytest.raises(ImageError, match="array"):
        codec.decode(data)


def test_hidden_colours_do_not_bleed(base: Codec):
    """What is seen comes out alike whatever garbage is under full transparency."""
    image = photograph(200, 160)
    mask = Image.new("L", image.size, 0)
    mask.paste(255, (40, 30, 150, 120))
    pixels = np.dstack([np.asarray(image), np.asarray(mask)])
    garbage = np.random.default_rng(3).integers(0, 256, pixels.shape, np.uint8)
    hidden = pixels[:, :, 3] == 0
    sizes, seen = [], []
    for fill in (0, garbage[hidden][:, :3]):
        pixels[:, :, :3][hidden] = fill
        data = base.encode(pixels, quality=60)
        sizes.append(len(data))
        seen.append(np.asarray(base.decode(data))[~hidden])
    np.testing.assert_array_equal(*seen)
    assert sizes[0] == sizes[1] < 1.1 * len(base.encode(image, quality=60))


# Segments, tiles and regions


@pytest.fixture(scope="module")
def wide(base: Codec) -> tuple[np.ndarray, bytes]:
    """An image of four segments, mirrored copies of a photograph, and its file."""
    pixels = np.asarray(photograph(560, 500))
    row = np.hstack([pixels, pixels[:, ::-1]])
    image = np.vstack([row, row[::-1], row[:60]])
    return image, base.encode(image, quality=60)


def test_an_image_is_cut_into_segments(wide: tuple[np.ndarray, bytes]):
    container = unpack(wide[1])
    assert container.header.segments == len(container.latents) == 4


def test_tiles_make_no_difference(
    base: Codec, wide: tuple[np.ndarray, bytes], monkeypatch: pytest.MonkeyPatch
):
    image, data = wide
    whole = np.asarray(base.decode(data)).astype(int)
    for side in (16, 64):
        for module in ("codec", "reading"):
            monkeypatch.setattr(f"vaecodec.{module}.tiles", partial(tiles, side=side))
        difference = np.abs(np.asarray(base.decode(data)) - whole)
        assert difference.max() <= 1
    # Tiles of 64 latents are segments: those of an encoder may be no smaller.
    again = np.asarray(base.decode(base.encode(image, quality=60))).astype(int)
    assert psnr_db(image, again.astype(np.uint8)) == pytest.approx(
        psnr_db(image, whole.astype(np.uint8)), abs=0.01
    )


def test_no_seam_shows(base: Codec, wide: tuple[np.ndarray, bytes]):
    """Gradients across the borders of segments are as large as those beside them."""
    image, data = wide
    error = np.asarray(base.decode(data)).astype(float) - image
    for axis in (0, 1):
        steps = np.abs(np.diff(error, axis=axis)).mean((1 - axis, 2))
        # At a border also lies an edge of the grid of latents: others are 16 pixels apart.
        edges = steps[15::16]
        assert edges[63] < 1.25 * np.delete(edges, 63)[58:].mean()


@pytest.mark.parametrize(
    "box",
    [
        Box(0, 0, 1, 1),
        Box(1059, 1119, 1060, 1120),
        Box(1000, 1000, 1050, 1060),
        Box(100, 30, 400, 777),
    ],
)
def test_a_region_is_what_the_whole_has_there(
    base: Codec, wide: tuple[np.ndarray, bytes], box: Box
):
    whole = np.asarray(base.decode(wide[1])).astype(int)
    region = np.asarray(base.decode(wide[1], region=box))
    difference = np.abs(region - whole[box.top : box.bottom, box.left : box.right])
    assert difference.max() <= 1


def test_a_region_reads_only_what_it_needs(base: Codec):
    """Beyond the halo of the second segment's first latents, the first is not looked at."""
    whole = base.encode(np.hstack([np.asarray(photograph(650, 40))] * 2))
    data = bytearray(whole)
    first = data.index(unpack(whole).latents[0])
    data[first + 100] ^= 1
    beyond = 1024 + PATCH * base.bundle.halo
    base.decode(bytes(data), region=Box(0, beyond, 20, beyond + 20))
    with pytest.raises(FormatError, match="checksum"):
        base.decode(bytes(data), region=Box(0, beyond - PATCH, 20, beyond + 20))


@pytest.mark.parametrize("box", [Box(0, 0, 0, 5), Box(-1, 0, 5, 5), Box(0, 0, 5, 2000)])
def test_a_region_outside_of_the_image(base: Codec, wide: tuple[np.ndarray, bytes], box: Box):
    with pytest.raises(ValueError, match="within 1120x1060"):
        base.decode(wide[1], region=box)


def test_alpha_of_a_region(base: Codec):
    pixels = np.dstack([np.asarray(photograph(560, 40)), np.zeros((40, 560), np.uint8)])
    image = np.hstack([pixels, pixels])
    image[:, :, 3] = np.arange(1120) % 256
    region = np.asarray(base.decode(base.encode(image), region=Box(5, 1000, 30, 1100)))
    np.testing.assert_array_equal(region[:, :, 3], image[5:30, 1000:1100, 3])


# Previews


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_preview_is_near_the_means_of_what_is_decoded(base: Codec, mode: str):
    image = photograph(333, 222).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = base.encode(image, quality=50)
    preview = base.preview(data).to_pillow()
    assert (preview.mode, preview.size) == (mode, (42, 28))
    # The last row and column of squares are cut off by the image's edge.
    decoded = base.decode_raster(data).read()[:216, :328]
    means = decoded.reshape(27, 8, 41, 8, -1).mean((1, 3)).round().astype(np.uint8)
    shown = np.asarray(preview).reshape(28, 42, -1)[:27, :41]
    assert psnr_db(means, shown) > 38
    if mode == "RGBA":
        np.testing.assert_allclose(means[..., 3].astype(int), shown[..., 3], atol=1)


def test_a_preview_of_several_segments(base: Codec, wide: tuple[np.ndarray, bytes]):
    preview = base.preview(wide[1]).read()
    assert preview.shape == (133, 140, 3)
    means = wide[0][:1056].reshape(132, 8, 140, 8, 3).mean((1, 3)).round().astype(np.uint8)
    assert psnr_db(means, preview[:132]) > 38
