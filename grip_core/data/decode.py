"""From images as they are stored to their pixels."""

from __future__ import annotations

import io
from os import PathLike

import numpy as np
from PIL import Image, UnidentifiedImageError

SMALLEST = 4
"""Pixels a side. Of fewer, image processors take the height or the width for the colours."""
LONGEST = 50
"""Times the other side. Longer images leave families with tiles no row of them, and Qwen's processors refuse them."""


class BadImage(ValueError):
    """What is no image that every family can read; says why."""


def decoded(image: bytes | str | PathLike[str] | Image.Image) -> np.ndarray:
    """Pixels of an encoded image, of the file of one, or of a picture of any mode, uint8 (height, width, 3).

    Raises BadImage if it is none, is cut off, or is of a shape that models cannot read.
    """
    try:
        opened = image
        if not isinstance(opened, Image.Image):
            opened = Image.open(io.BytesIO(opened) if isinstance(opened, bytes) else opened)
        pixels = np.asarray(opened.convert("RGB"))
    except FileNotFoundError:
        raise BadImage("there is no such file") from None
    except UnidentifiedImageError:
        raise BadImage("it is in no format of images") from None
    except (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(str(error)) from None
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST or max(height, width) > LONGEST * min(height, width):
        raise BadImage(
            f"its sides must be at least {SMALLEST} pixels, and one at most {LONGEST} times the other, but it has "
            f"{width} x {height}"
        )
    return pixels
