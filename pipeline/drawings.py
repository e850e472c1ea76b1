"""Figures are drawn and saved several at a time, each in another process.

A process gets what to draw from, never a figure: matplotlib's transforms remember each other by memory addresses, which
may be other objects' once they are unpickled, and then, now and then, a label stays where it lay before the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from grip_core.figures.palette import use_theme
from grip_core.figures.report import Picture
from grip_core.figures.save import Kind, figure_bytes, save_figure

Drawing = tuple[str, Callable[[], Figure], str]
"""What draws a figure, between its name and its text for those who cannot see it."""


def save_drawings(folder: Path, drawings: Iterable[Drawing], as_pixels: Iterable[str]) -> dict[str, Picture]:
    """Save every figure as PNG, SVG and PDF into the folder; for a page, those named by `as_pixels` are PNG, the others
    SVG."""
    with ProcessPoolExecutor(initializer=use_theme) as pool:
        saving = {name: (pool.submit(_files, draw), alt) for name, draw, alt in drawings}
    pixels, pictures = set(as_pixels), {}
    for name, (future, alt) in saving.items():
        files = future.result()
        save_figure(files, folder, name)
        kind: Kind = "png" if name in pixels else "svg"
        pictures[name] = Picture(files[kind], kind, alt)
    return pictures


def _files(draw: Callable[[], Figure]) -> dict[Kind, bytes]:
    figure = draw()
    files = figure_bytes(figure)
    plt.close(figure)
    return files
