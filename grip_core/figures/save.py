"""Figures as bytes that depend on their content alone: no dates, no version, fixed ids."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from grip_core.files import atomic_file

Kind = Literal["png", "svg", "pdf"]
KINDS: tuple[Kind, ...] = ("png", "svg", "pdf")
METADATA: dict[Kind, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
DPI = 160
PAD = 0.1  # inches


def figure_bytes(figure: Figure, kinds: Sequence[Kind] = KINDS) -> dict[Kind, bytes]:
    """The figure as files by kind. Its layout and what it covers are computed once, for they take longest."""
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # with one, even an idle one, every kind would draw the figure twice
    covered = figure.get_tightbbox().padded(PAD)
    with mpl.rc_context({"svg.hashsalt": "grip", "svg.fonttype": "none", "pdf.fonttype": 42}):  # text stays text
        return {kind: _bytes(figure, covered, kind) for kind in kinds}


def save_figure(files: Mapping[Kind, bytes], folder: Path, name: str) -> None:
    """Write `folder`/`name`.<kind> for each of the files, whole or not at all."""
    for kind, content in files.items():
        with atomic_file(folder / f"{name}.{kind}") as file:
            file.write(content)


def _bytes(figure: Figure, covered: Bbox, kind: Kind) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, bbox_inches=covered, metadata=METADATA[kind])
    return buffer.getvalue()
