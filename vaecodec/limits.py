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
        max_memory_bytes: What encoding, decoding or denoising may take, as estimated before.

    Raises:
        ValueError: If a limit is under 1, or is more than a container's field can hold.
    """

    # Just above JPEG's 65,535. It also bounds padding: a strip one pixel high grows 64-fold when
    # padded to the 64 px of a hyper-latent, so the longest one becomes 2**16 * 64 = 4.2 MP.
    max_side: int = 2**16

    # 268 MP, above any camera and most scanners. Tiles bound what the networks take, so this is
    # the image itself: 805 MB of 8-bit RGB, and once more while a file of it is written.
    max_pixels: int = 2**28

    # Two chunks for each of the segments of the largest image, which are at most 64 x 64 where it
    # is cut as badly as can be (2 * 2**12), and as many again for metadata and private ones.
    max_chunks: int = 2**14

    # 2**26 * 8 / 2**20 = 512 bits per pixel of a segment: thirty times what latents or alpha can
    # take. Profiles and EXIF of several megabytes exist, of 64 do not.
    max_chunk_bytes: int = 2**26

    # The largest image uncompressed at 8 bits (3 * 2**28 bytes, 805 MB) and some room, as source
    # files such as TIFF come under this limit too.
    max_file_bytes: int = 2**30

    # 8 GB, by the codec's own estimate: the largest image with alpha and 16 bits takes 6.
    max_memory_bytes: int = 2**33

    def __post_init__(self) -> None:
        limits = (
            ("max_side", self.max_side, _U32_MAX),
            ("max_pixels", self.max_pixels, _U32_MAX**2),
            ("max_chunks", self.max_chunks, _U16_MAX),
            ("max_chunk_bytes", self.max_chunk_bytes, _U32_MAX),
            ("max_file_bytes", self.max_file_bytes, _U16_MAX * _U32_MAX),
            ("max_memory_bytes", self.max_memory_bytes, _U32_MAX**2),
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

    def check_memory_bytes(self, size: int) -> None:
        """Check how much memory an image is going to take.

        Raises:
            LimitError: If it is over `max_memory_bytes`.
        """
        _check("memory needed in bytes", size, self.max_memory_bytes)


DEFAULT_LIMITS = Limits()


def _check(what: str, value: int, limit: int) -> None:
    if value > limit:
        raise LimitError(what, value, limit)
