"""Pillow opens and saves `.vaec` files from when this module is imported.

>>> import vaecodec.pillow_plugin
>>> image = Image.open("photo.vaec")
>>> image.save("smaller.vaec", quality=30)

`Image.open` reads the file and checks all but the pixels: neither NumPy nor a network is loaded
until they are needed. Grey is L or I;16, the rest LA, RGB or RGBA. Metadata is in `info`, as
"icc_profile", "exif", "xmp" and "dpi". Thumbnails of up to a sixteenth of width and height come
from the codec's preview, which spares most of the work.

`Image.save` takes `quality` (0 to 100), `denoise`, `bundle` (a name or folder), `exif` (bytes or an
`Image.Exif`), `icc_profile`, `xmp` and `dpi`. Metadata that is not given is the image's own, as in
`vaecodec.encode`; None leaves it out. An orientation in what is written turns the pixels upright.
A file that is saved over stays as it is until the new one is whole: where that fails, for good.

Errors of reading are Pillow's and ours at once, so that handlers of either catch them:

    UnidentifiedImageError   the file is no `.vaec`
    UnreadableFileError      it is damaged, or a later version's; its cause is the FormatError. On
                             opening, but where only pixels are damaged: then on loading
    OversizedFileError       it is over our limits; `Image.MAX_IMAGE_PIXELS` holds besides
    ImageError               it has 16 bits and several channels, for which Pillow has no mode

Any other `VaecodecError` comes on loading, and is no fault of the file: its model or ONNX Runtime
is not installed, or memory is short. Threads may open, load and save images of their own.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any, cast

from PIL import Image, ImageFile

from vaecodec import _codec  # pyright: ignore[reportPrivateUsage]
from vaecodec.bundle import PREVIEW_SCALE, find_bundle, find_by_id
from vaecodec.container import HEADER_BYTES, MAGIC, Mode, read_header, unpack
from vaecodec.errors import FormatError, ImageError, LimitError
from vaecodec.limits import DEFAULT_LIMITS
from vaecodec.metadata import attach, from_chunks, read_metadata
from vaecodec.pillow_saving import keep_until_written
from vaecodec.rate import DEFAULT_QUALITY

_FORMAT = "VAEC"
_MODES = {
    (Mode.GREY, 8): "L",
    (Mode.GREY, 16): "I;16",
    (Mode.GREY_ALPHA, 8): "LA",
    (Mode.RGB, 8): "RGB",
    (Mode.RGB_ALPHA, 8): "RGBA",
}
_METADATA = {"icc_profile": "icc", "exif": "exif", "xmp": "xmp", "dpi": "dpi"}
"""Options of `Image.save`, and what of `Metadata` they replace."""
_BLOCK_BYTES = 2**20


class UnreadableFileError(FormatError, OSError):
    """A `.vaec` file is damaged, or a later version's."""


class OversizedFileError(LimitError, Image.DecompressionBombError):
    """A `.vaec` file is over a limit."""


class VaecImageFile(ImageFile.ImageFile):
    """An opened `.vaec` file."""

    format = _FORMAT
    format_description = "VAEC image"
    _encoded: bytes | None = None
    """The whole file, until its pixels are decoded."""
    _scale = 1

    def _open(self) -> None:
        file = cast("IO[bytes]", self.fp)
        start = file.read(HEADER_BYTES)
        if not _accepts(start):
            raise SyntaxError("not a VAEC file")
        with _pillow_errors():
            header = read_header(start)
            DEFAULT_LIMITS.check_size(header.width, header.height)
            self._encoded = _read_on(file, start)
            ancillary = unpack(self._encoded, DEFAULT_LIMITS, frozenset()).ancillary
        if (header.mode, header.bit_depth) not in _MODES:
            raise ImageError(
                f"Pillow has no images of 16 bits per sample and {header.mode:d} samples per "
                "pixel: the method decode_raster of vaecodec.Codec gives an array"
            )
        self._mode = _MODES[header.mode, header.bit_depth]
        self._size = (header.width, header.height)
        attach(self, from_chunks(ancillary).upright())

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Have the preview loaded instead of the image, if it is as large as `size` at least.

        Returns:
            The mode, which is the image's own, and the part of the preview that is the image;
            None where nothing changes.
        """
        width, height = (side / PREVIEW_SCALE for side in self.size)
        drafted = self._scale != 1 or self._encoded is None
        if drafted or not size or min(size) < 1 or width < size[0] or height < size[1]:
            return None
        self._scale = PREVIEW_SCALE
        self._size = (-(-self.width // PREVIEW_SCALE), -(-self.height // PREVIEW_SCALE))
        return self.mode, (0, 0, width, height)

    def load(self) -> Image.core.PixelAccess | None:
        """Decode the pixels, if that has not been done; see the module for the errors."""
        if self._encoded is not None and self._im is None:
            with _pillow_errors():
                image = _decoded(self._encoded, self._scale)
            self.im = image.im
            self.readonly = 0  # even if it is the raster's own memory, as nobody else has that
            self._mode = image.mode
            self._encoded = None
            if self._exclusive_fp and self.fp:
                self.fp.close()
            self.fp = None
        return super().load()

    def verify(self) -> None:
        """Compare every checksum of a file just opened with what it covers, and close it.

        Raises:
            UnreadableFileError: one does not match.
        """
        if self._encoded is not None:
            with _pillow_errors():
                unpack(self._encoded)
        super().verify()


def register_vaec_opener() -> None:
    """Have Pillow open and save `.vaec` files; again, if it was done before."""
    Image.register_open(_FORMAT, VaecImageFile, _accepts)
    Image.register_save(_FORMAT, _save)
    Image.register_save_all(_FORMAT, _save_all)
    Image.register_extension(_FORMAT, ".vaec")
    Image.register_mime(_FORMAT, "image/x-vaec")
    keep_until_written(_FORMAT)


def _accepts(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _read_on(file: IO[bytes], start: bytes) -> bytes:
    """Return a whole file whose start has been read."""
    data = bytearray(start)
    while block := file.read(_BLOCK_BYTES):
        data += block
        DEFAULT_LIMITS.check_file_bytes(len(data))
    return bytes(data)


@contextmanager
def _pillow_errors() -> Generator[None]:
    """Raise what are errors of Pillow's, too, in place of those inside."""
    try:
        yield
    except FormatError as error:
        raise UnreadableFileError(str(error)) from error
    except LimitError as error:
        raise OversizedFileError(error.what, error.value, error.limit) from error


def _decoded(data: bytes, scale: int) -> Image.Image:
    bundle = find_by_id(read_header(data).model_id)
    if scale == 1:
        return _codec(bundle.path).decode_raster(data).to_pillow()
    return _codec(bundle.path).preview(data).to_pillow()


def _save(im: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    options: dict[str, Any] = cast("Any", im).encoderinfo
    quality = options.get("quality")
    image = _as_written(im, {name: options[name] for name in _METADATA if name in options})
    codec = _codec(find_bundle(options.get("bundle") or "base").path)
    fp.write(
        codec.encode(
            image,
            quality=DEFAULT_QUALITY if quality is None else float(quality),
            denoise=bool(options.get("denoise")),
        )
    )


def _save_all(im: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    images = [im, *cast("Any", im).encoderinfo.get("append_images", ())]
    frames = sum(getattr(image, "n_frames", 1) for image in images)
    if frames > 1:
        raise ImageError(f"a .vaec file holds one image, not {frames}: save each on its own")
    _save(im, fp, filename)


def _as_written(im: Image.Image, given: dict[str, Any]) -> Image.Image:
    """Return one frame, some of its metadata replaced.

    Raises:
        ValueError: what was given is of another kind.
    """
    if not given and getattr(im, "n_frames", 1) == 1:
        return im
    image = im.copy()
    # Pillow finds EXIF under other names, too: what was replaced is not to come back from there.
    image.info = {key: value for key, value in im.info.items() if key == "transparency"}
    attach(image, read_metadata(im))
    exif = given.get("exif")
    image.info |= given | ({"exif": exif.tobytes()} if isinstance(exif, Image.Exif) else {})
    written = read_metadata(image).upright()
    for name, attribute in _METADATA.items():
        if given.get(name) and not getattr(written, attribute):
            raise ValueError(f"this is no {name} that a file can hold: {given[name]!r:.60}")
    return image


register_vaec_opener()
