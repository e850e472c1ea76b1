"""Check params.yaml before anything runs, the names in it included; prints nothing if all is well."""

from __future__ import annotations

from grip_core.baselines.registry import get
from grip_core.config import Params
from pipeline.stage import run


def main(params: Params) -> None:
    """Raise UserError at the first unknown baseline; `run` has checked the rest."""
    for name in params.evaluate.baselines:
        get(name)


if __name__ == "__main__":
    run(main)
