"""Figures as bytes that depend on their content alone: no dates, no version, fixed ids."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from grip_core.files import atomic_file

METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
DPI = 160


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as "png", "svg" or "pdf"."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "grip", "svg.fonttype": "none", "pdf.fonttype": 42}):  # text stays text
        figure.savefig(buffer, format=kind, dpi=DPI, bbox_inches="tight", metadata=METADATA[kind])
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write `folder`/`name`.png, .svg and .pdf, each whole or not at all."""
    for kind in METADATA:
        with atomic_file(folder / f"{name}.{kind}") as file:
            file.write(figure_bytes(figure, kind))
