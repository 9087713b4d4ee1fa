"""A coverage-guided fuzzer over the one oracle.

    python tests/hostile/fuzz.py -max_total_time=1800 FOLDER

The folder holds what is found on the way; an empty one is filled with the golden files and the
corpus first. Every option is libFuzzer's. It needs atheris (`pip install atheris`), which is no
dependency of the project.

Only vaecodec is instrumented: coverage of NumPy and Pillow would be followed for its own sake.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

SEED_BYTES = 4096
"""Longer files of the corpus are left out: what they show is size."""


def main() -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("the fuzzer needs atheris: pip install atheris")
    with atheris.instrument_imports(include=["vaecodec"]):
        from hostile import mutate, oracle
    import numpy as np

    def bend(data: bytes, max_size: int, seed: int) -> bytes:
        """Mutate as libFuzzer does, as the campaign does, or both; then repair, most often."""
        rng = np.random.default_rng(seed)
        kind = rng.random()
        if kind < 0.6:
            data = atheris.Mutate(data, max_size)
        if kind > 0.4:
            data = mutate.mutate(rng, data)
        if rng.random() < 0.8:
            data = mutate.repair(data)
        return data[:max_size]

    for folder in [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")][:1]:
        _fill(folder, mutate.goldens())
    oracle.codec()
    atheris.Setup(sys.argv, oracle.judge, custom_mutator=bend)
    atheris.Fuzz()


def _fill(folder: Path, goldens: dict[str, bytes]) -> None:
    """Give an empty folder something to begin with."""
    from hostile.make_corpus import read_corpus

    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        return
    seeds = goldens | {name: entry.data for name, entry in read_corpus().items()}
    for name, data in seeds.items():
        if len(data) <= SEED_BYTES:
            (folder / name.replace("/", "-")).write_bytes(data)


if __name__ == "__main__":
    main()
