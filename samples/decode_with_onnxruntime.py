"""Decode any `.vaec` file of version 1.0: an independent decoder, written from FORMAT.md alone.

Usage: `python samples/decode_with_onnxruntime.py BUNDLE FILE.vaec OUT.png` (16 bits: OUT.npy).
"""

import sys
import zlib
from bisect import bisect_right
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from struct import unpack, unpack_from

import numpy as np
from onnxruntime import InferenceSession


def require(condition: object, complaint: str) -> None:
    """Refuse the file unless the condition holds."""
    if not condition:
        raise ValueError(complaint)


def unpack_file(data: bytes) -> tuple[tuple, dict[bytes, list[bytes]]]:
    """Return what the header says of the image, and the payloads of each kind of chunk."""
    require(data[:8] == b"\x8bVAEC\r\n\x1a" and len(data) >= 36, "no .vaec file, or a piece of one")
    major, _, mode, depth, w, h, level, count, model, crc = unpack("<4B2I2H8sI", data[8:36])
    require(major == 1, f"major version {major} is unknown")
    require(crc == zlib.crc32(data[:32]), "the CRC of the header does not match")
    require(mode in (1, 2, 3, 4) and depth in (8, 16), "unknown mode or bit depth")
    require(w and h and level <= 63 * 256, "no pixels, or a bad level")
    require(max(w, h) <= 2**16 and w * h <= 2**28 and count <= 2**14, "the file is over a limit")
    payloads, end = {b"LATN": [], b"ALPH": []}, 36
    for _ in range(count):
        start, end = end, end + 12 + int.from_bytes(data[end + 4 : end + 8], "little")
        name, chunk, crc = data[start : start + 4], data[start : end - 4], data[end - 4 : end]
        require(crc == zlib.crc32(chunk).to_bytes(4, "little"), "a chunk is cut off or damaged")
        known = name in payloads or (name.isalpha() and name[:1].islower())
        require(known, f"chunk {name} is critical and unknown, or misnamed")
        payloads.setdefault(name, []).append(chunk[8:])
    require(end == len(data), "bytes follow the last chunk")
    return (mode, depth, h, w, level, model), payloads


def decode_alpha(payload: bytes, height: int, width: int, depth: int) -> np.ndarray:
    """Return the alpha of a segment, (height, width) uint8 or uint16."""
    plane, size, inflate = b"", height * width * depth // 8, zlib.decompressobj()
    with suppress(zlib.error):
        plane = inflate.decompress(payload[1:], size + 1)
    whole = inflate.eof and not inflate.unused_data and len(plane) == size
    require(whole and payload[0] <= 3, "bad predictor of alpha, or not one zlib stream of its size")
    high_then_low = np.frombuffer(plane, np.uint8).reshape(depth // 8, -1)
    alpha = high_then_low.T.copy().view(f">u{depth // 8}").reshape(height, width)
    for bit, axis in (1, 1), (2, 0):  # to undo predictor 1, 2 or 3, sum to the right, down or both
        alpha = np.cumsum(alpha, axis, f"u{depth // 8}") if payload[0] & bit else alpha
    return alpha


class Residuals:
    """The residuals of a LATN payload: an ANS stream, and escapes beside it."""

    def __init__(self, payload: bytes, tables: dict[str, np.ndarray]):
        self.expected_crc, count = unpack_from("<2I", payload.ljust(8))
        require(len(payload) >= 8 + 4 * count, "a LATN payload is shorter than its words")
        words, self.escapes = payload[8 : 8 + 4 * count], list(payload[: 7 + 4 * count : -1])
        require(words[-4:] != bytes(4), "the last word is zero")
        self.words = np.frombuffer(words[:-8], "<u4").tolist()
        self.state, self.crc = int.from_bytes(words[-8:], "little"), 0
        ends = np.cumsum(2 * tables["reach"][1:].astype(int) + 2)[:-1]
        self.sums = [[0, *np.cumsum(f).tolist()] for f in np.split(tables["frequencies"], ends)]

    def decode(self, scale: np.ndarray) -> np.ndarray:
        """Return the residuals of a group, in the shape of its scale indices."""
        residuals = np.zeros(scale.size, "<i4")
        order = np.argsort(scale, axis=None, kind="stable")[np.sum(scale == 0) :]
        residuals[order] = [self.decode_one(self.sums[index - 1]) for index in scale.flat[order]]
        self.crc = zlib.crc32(residuals[order], self.crc)
        return residuals.reshape(scale.shape)

    def decode_one(self, sums: list[int]) -> int:
        """Return the next residual, whose table has these cumulative sums."""
        quantile, reach = self.state % 2**24, len(sums) // 2 - 1
        s = bisect_right(sums, quantile) - 1
        self.state = (sums[s + 1] - sums[s]) * (self.state >> 24) + quantile - sums[s]
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        if s <= 2 * reach:
            return s - reach
        value, shift, byte = 0, 0, 128
        while byte & 128:
            require(self.escapes and shift < 28, "an escape is too large or cut off")
            byte = self.escapes.pop()
            value, shift = value | (byte & 127) << shift, shift + 7
        require(reach + 1 + (value >> 1) <= 2**20, "a residual is too large")
        return (reach + 1 + (value >> 1)) * (-1) ** value


def decode_latents(payload, height, width, anchor, tables, prior, contexts) -> np.ndarray:
    """Return the y_hat of a segment, (1, M, h, w) float32."""
    residuals, h, w = Residuals(payload, tables), -(-height // 16), -(-width // 16)
    z_scale = tables["z_scale_index"][anchor, :, None, None]
    z_hat = residuals.decode(np.tile(z_scale, (-(-h // 4), -(-w // 4))))[None].astype("f4")
    known = {"features": prior.run(None, {"z_hat": z_hat, "anchor": anchor})[0], "anchor": anchor}
    for k, context in enumerate(contexts):
        (mean,), (scale,) = context.run(["mean", "scale"], known)
        y_hat = known.setdefault("y_hat", np.tile(np.zeros_like(mean[None]), (2, 2)))
        p, q, a, b = np.indices((4, len(mean) // 4, *mean.shape[1:])).reshape(4, *mean.shape)
        c, i, j = 4 * q + (k ^ p), 2 * a + p // 2, 2 * b + p % 2
        y_hat[0, c, i, j] = mean + residuals.decode(scale * ((i < h) & (j < w)))
    require(not (residuals.words or residuals.escapes or residuals.state), "a LATN has data left")
    require(residuals.crc == residuals.expected_crc, "the CRC of the symbols does not match")
    return y_hat[:, :, :h, :w]


def decode(data: bytes, bundle: Path) -> np.ndarray:
    """Return the samples of a file, (height, width, mode), uint8 or uint16."""
    (mode, depth, height, width, level, model), payloads = unpack_file(data)
    names = "context_0", "context_1", "context_2", "context_3", "decoder", "prior"
    files = [*(bundle / f"{name}.onnx" for name in names), bundle / "tables.npz"]
    lines = (f"{file.name} {sha256(file.read_bytes()).hexdigest()}\n" for file in files)
    require(sha256("".join(lines).encode()).digest()[:8] == model, f"needs model {model.hex()}")
    *contexts, decoder, prior = map(InferenceSession, files[:-1])
    shared = np.array((level + 128) >> 8), dict(np.load(files[-1])), prior, contexts
    rows, columns = ([min(1024, n - at) for at in range(0, n, 1024)] for n in (height, width))
    latn, alph, count = payloads[b"LATN"], payloads[b"ALPH"], len(rows) * len(columns)
    require(len(latn) == count and len(alph) == count * (mode in (2, 4)), "too few or many chunks")
    y_hat = np.block([[decode_latents(latn.pop(0), h, w, *shared) for w in columns] for h in rows])
    x_hat = decoder.run(["x_hat"], {"y_hat": y_hat, "level": np.array(level / 256, "f4")})[0]
    colour, peak = x_hat[0] if mode > 2 else x_hat.mean(1), 2**depth - 1
    planes = [*np.clip(np.floor(peak * colour + 0.5), 0, peak)[:, :height, :width]]
    if alph:
        alpha = [[decode_alpha(alph.pop(0), h, w, depth) for w in columns] for h in rows]
        planes.append(np.block(alpha))
    return np.stack(planes, axis=-1).astype(f"u{depth // 8}")


def main(bundle: str, file: str, out: str) -> None:
    """Write the image of a file as PNG, or its samples where they have 16 bits."""
    from PIL import Image

    samples = decode(Path(file).read_bytes(), Path(bundle))
    if samples.dtype == np.uint16:
        np.save(Path(out).with_suffix(".npy"), samples)
    else:
        Image.fromarray(samples if samples.shape[2] > 1 else samples[:, :, 0]).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
