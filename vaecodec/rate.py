"""Quality, as a user says it, and the level of the model that it means."""

from vaecodec.container import MAX_LEVEL

DEFAULT_QUALITY = 50.0
MAX_QUALITY = 100.0


def level_of_quality(quality: float) -> int:
    """Return the level nearest to a quality.

    The levels' weights of distortion are log-spaced, so steps of equal quality multiply the size
    of a file by about equal factors.

    Args:
        quality: 0, the smallest files, to 100, the most faithful ones.

    Returns:
        0 to `MAX_LEVEL`.

    Raises:
        ValueError: If the quality is outside its range, or not a number.
    """
    # Written so that NaN, which compares false with everything, is refused too.
    if not 0 <= quality <= MAX_QUALITY:
        raise ValueError(f"quality {quality:g} is not in 0 to {MAX_QUALITY:g}")
    return round(quality * MAX_LEVEL / MAX_QUALITY)


def quality_of_level(level: int) -> float:
    """Return the quality that a level stands for; `level_of_quality` returns it to the level.

    Raises:
        ValueError: If the level is outside 0 to `MAX_LEVEL`.
    """
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"level {level} is not in 0 to {MAX_LEVEL}")
    return level * MAX_QUALITY / MAX_LEVEL
