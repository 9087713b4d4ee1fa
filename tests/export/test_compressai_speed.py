"""The comparison with CompressAI, which is not installed here: what is timed, and how often."""

from __future__ import annotations

import numpy as np

from export.compressai_speed import Contender, measure


def test_every_codec_codes_its_share_of_the_images_and_one_more_untimed():
    coded: dict[str, list[int]] = {"fast": [], "slow": []}

    def contender(name: str, images: int) -> Contender:
        def encode(pixels: np.ndarray) -> int:
            coded[name].append(int(pixels[0, 0, 0]))
            return coded[name][-1]

        def decode(value: int) -> None:
            assert value == coded[name][-1]

        return Contender(name, encode, decode, images)

    images = [np.full((2, 2, 3), value, np.uint8) for value in range(3)]
    fast, slow = contender("fast", 3), contender("slow", 1)
    measure([fast, slow], images)
    assert coded == {"fast": [0, 0, 1, 2], "slow": [0, 0]}
    assert (len(fast.encode_s), len(slow.decode_s)) == (3, 1)
