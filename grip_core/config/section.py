"""What the sections of params.yaml are made of: ranges of single values, and the class of all sections."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Seed = Annotated[int, Field(ge=0)]


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError(f"no value may come twice, but got {values}")
    return values


Several = (Field(min_length=1), AfterValidator(_distinct))
"""A list of at least one value, none twice: a seed that is run twice would count as two pieces of evidence."""


class Section(BaseModel):
    """A section of params.yaml: complete, immutable, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
