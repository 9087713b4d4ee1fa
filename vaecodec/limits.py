"""How large an image, a chunk or a file may be, the same for reading and for writing.

A field of a file is only a claim. Each one is held against these limits before any memory is
set aside for it, and a file that could not be read back is not written either.
"""

from dataclasses import dataclass

from vaecodec.errors import LimitError

# What the fields of a container can hold at all: see FORMAT.md.
_U16_MAX = 2**16 - 1
_U32_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds, each of them inclusive.

    Attributes:
        max_side: Width or height, in pixels.
        max_pixels: Width times height.
        max_chunks: Chunks in one file.
        max_chunk_bytes: Payload of one chunk.
        max_file_bytes: A whole file, compressed or not.

    Raises:
        ValueError: If a limit is under 1, or is more than a container's field can hold.
    """

    # Just above JPEG's 65,535. It also bounds padding: a strip one pixel high grows 64-fold when
    # padded to the 64 px of a hyper-latent, so the longest one becomes 2**16 * 64 = 4.2 MP.
    max_side: int = 2**16

    # 33 MP, above most cameras. The networks see the whole image at once and take about 210 bytes
    # for each pixel, so this is 7 GB: what a machine of 8 GB can just do.
    max_pixels: int = 2**25

    # One chunk of latents, one of alpha, three of metadata: a writer needs about five. 256 leaves
    # room for private ancillary ones, and costs a reader at most 256 small objects.
    max_chunks: int = 2**8

    # 2**26 * 8 / 2**25 = 16 bits per pixel for the largest image: four times what photographs take
    # at the highest level (4), and twice an alpha plane that does not compress at all (8).
    max_chunk_bytes: int = 2**26

    # 2.5 times the largest image uncompressed at 16 bits per sample (6 * 2**25 bytes, 201 MB), as
    # source files such as TIFF, which may hold layers, come under this limit too.
    max_file_bytes: int = 2**29

    def __post_init__(self) -> None:
        limits = (
            ("max_side", self.max_side, _U32_MAX),
            ("max_pixels", self.max_pixels, _U32_MAX**2),
            ("max_chunks", self.max_chunks, _U16_MAX),
            ("max_chunk_bytes", self.max_chunk_bytes, _U32_MAX),
            ("max_file_bytes", self.max_file_bytes, _U16_MAX * _U32_MAX),
        )
        for name, value, ceiling in limits:
            if not 1 <= value <= ceiling:
                raise ValueError(f"{name} must be 1 to {ceiling:,}, not {value:,}")

    def check_size(self, width: int, height: int) -> None:
        """Check an image's dimensions.

        Args:
            width: In pixels.
            height: In pixels.

        Raises:
            LimitError: If a side, or their product, is over its limit.
        """
        _check("image width in pixels", width, self.max_side)
        _check("image height in pixels", height, self.max_side)
        _check("image size in pixels", width * height, self.max_pixels)

    def check_chunk_count(self, count: int) -> None:
        """Check how many chunks a file has.

        Raises:
            LimitError: If there are more than `max_chunks`.
        """
        _check("number of chunks", count, self.max_chunks)

    def check_chunk_bytes(self, size: int) -> None:
        """Check the size of one chunk's payload.

        Raises:
            LimitError: If it is over `max_chunk_bytes`.
        """
        _check("chunk size in bytes", size, self.max_chunk_bytes)

    def check_file_bytes(self, size: int) -> None:
        """Check the size of a whole file.

        Raises:
            LimitError: If it is over `max_file_bytes`.
        """
        _check("file size in bytes", size, self.max_file_bytes)


DEFAULT_LIMITS = Limits()


def _check(what: str, value: int, limit: int) -> None:
    if value > limit:
        raise LimitError(what, value, limit)
