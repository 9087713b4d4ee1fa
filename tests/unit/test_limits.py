import dataclasses

import pytest

from vaecodec.errors import LimitError
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.segments import latent_box, segments


def test_defaults():
    assert Limits() == DEFAULT_LIMITS
    assert dataclasses.asdict(DEFAULT_LIMITS) == {
        "max_side": 65_536,
        "max_pixels": 268_435_456,
        "max_chunks": 16_384,
        "max_chunk_bytes": 67_108_864,
        "max_file_bytes": 1_073_741_824,
        "max_memory_bytes": 8_589_934_592,
    }


def test_limits_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT_LIMITS.max_side = 1  # type: ignore[misc]


def test_the_limit_itself_is_allowed():
    limits = Limits(10, 100, 1, 2, 3, 4)
    limits.check_size(10, 10)
    limits.check_chunk_count(1)
    limits.check_chunk_bytes(2)
    limits.check_file_bytes(3)
    limits.check_memory_bytes(4)


@pytest.mark.parametrize(
    ("size", "what", "value", "limit"),
    [
        ((11, 1), "image width in pixels", 11, 10),
        ((1, 11), "image height in pixels", 11, 10),
        ((10, 10), "image size in pixels", 100, 99),
    ],
)
def test_check_size(size: tuple[int, int], what: str, value: int, limit: int):
    with pytest.raises(LimitError) as caught:
        Limits(max_side=10, max_pixels=99).check_size(*size)
    assert (caught.value.what, caught.value.value, caught.value.limit) == (what, value, limit)


def test_counts_and_bytes_over_the_limit():
    limits = Limits(max_chunks=1, max_chunk_bytes=2, max_file_bytes=3, max_memory_bytes=4)
    with pytest.raises(LimitError, match="number of chunks is 2, over the limit of 1"):
        limits.check_chunk_count(2)
    with pytest.raises(LimitError, match="chunk size in bytes is 3, over the limit of 2"):
        limits.check_chunk_bytes(3)
    with pytest.raises(LimitError, match="file size in bytes is 4, over the limit of 3"):
        limits.check_file_bytes(4)
    with pytest.raises(LimitError, match="memory needed in bytes is 5, over the limit of 4"):
        limits.check_memory_bytes(5)


def test_the_largest_image_fits_into_a_file():
    """By its chunks: segments of 1,024 pixels a side, each with latents and alpha."""
    longest = DEFAULT_LIMITS.max_side
    for width, height in ((2**14, 2**14), (longest, 2**12), (2**12, longest), (longest, 1)):
        DEFAULT_LIMITS.check_size(width, height)
        count = len(list(segments(latent_box(width, height), latent_box(width, height))))
        DEFAULT_LIMITS.check_chunk_count(2 * count)


def test_a_product_that_would_overflow_32_bits_is_judged_whole():
    with pytest.raises(LimitError):
        Limits(max_side=2**17).check_size(2**17, 2**17)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Limits)])
def test_a_limit_must_be_positive(field: str):
    with pytest.raises(ValueError, match=field):
        Limits(**{field: 0})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_side", 2**32),
        ("max_chunks", 2**16),
        ("max_chunk_bytes", 2**32),
        ("max_file_bytes", (2**16 - 1) * (2**32 - 1) + 1),
    ],
)
def test_a_limit_may_not_exceed_what_the_format_can_hold(field: str, value: int):
    Limits(**{field: value - 1})
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})
