"""From encoded images to pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from grip_core.data.decode import LONGEST, SMALLEST, BadImage, decoded


def png(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), 7).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("height", "width"), [(SMALLEST, SMALLEST), (LONGEST * 5, 5), (5, LONGEST * 5)])
def test_pixels_have_three_colours(height, width):
    assert decoded(png(height, width)).tolist() == [[[7, 7, 7]] * width] * height


@pytest.mark.parametrize(("height", "width"), [(SMALLEST - 1, 20), (20, SMALLEST - 1), (LONGEST * 5 + 1, 5)])
def test_what_is_too_small_or_too_long_is_told_with_its_size(height, width):
    with pytest.raises(BadImage, match=f"but it has {width} x {height}"):
        decoded(png(height, width))


def test_a_file_and_a_picture_are_as_its_bytes(tmp_path):
    (tmp_path / "image.png").write_bytes(png(8, 9))
    for given in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.open(tmp_path / "image.png")):
        assert np.array_equal(decoded(given), decoded(png(8, 9)))


@pytest.mark.parametrize(("data", "said"), [(b"nothing", "in no format"), (png(90, 90)[:60], "truncated")])
def test_what_is_no_image_is_one_line(data, said):
    with pytest.raises(BadImage, match=said) as error:
        decoded(data)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named_as_such(tmp_path):
    with pytest.raises(BadImage, match="no such file"):
        decoded(tmp_path / "none.png")
