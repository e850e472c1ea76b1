"""Figures are drawn one after another and saved in other processes meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from grip_core.figures.palette import use_theme
from grip_core.figures.report import Picture
from grip_core.figures.save import Kind, figure_bytes, save_figure

Drawing = tuple[str, Figure, str]
"""A figure between its name and its text for those who cannot see it."""
SAVERS = 4
"""Processes that save figures; to save one takes longer than to draw it."""


def save_drawings(folder: Path, drawings: Iterable[Drawing], as_pixels: Iterable[str]) -> dict[str, Picture]:
    """Save every figure as PNG, SVG and PDF into the folder; for a page, those named by `as_pixels` are PNG, the others
    SVG."""
    saving = {}
    with ProcessPoolExecutor(SAVERS, initializer=use_theme) as pool:
        for name, figure, alt in drawings:
            plt.close(figure)  # pyplot lets go of it, or it would be open in the other process too
            saving[name] = pool.submit(figure_bytes, figure), alt
    pixels, pictures = set(as_pixels), {}
    for name, (future, alt) in saving.items():
        files = future.result()
        save_figure(files, folder, name)
        kind: Kind = "png" if name in pixels else "svg"
        pictures[name] = Picture(files[kind], kind, alt)
    return pictures
