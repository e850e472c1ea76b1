"""Which items training leaves out."""

from __future__ import annotations

from grip_core.config.section import Section


class FilterConfig(Section):
    """Which training items are left out because they carry no signal."""

    answered_without_image: bool
    """Drop items the model already answers without the image."""
    failed_with_all_tokens: bool
    """Drop items the model gets wrong with every token kept."""
