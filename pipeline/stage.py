"""What every stage's script shares: the params file, and mistakes told in one line.

A stage ends with `if __name__ == "__main__": run(main)` and is started from the repository's root:
`python -m pipeline.<stage> [--params PATH]`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path

from grip_core.config import load
from grip_core.errors import UserError

OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")
"""torch's for a GPU, by its name because most stages do not import torch, and Python's."""
NO_MEMORY = (
    "there is too little memory; lower features.batch_size, evaluate.batch_size or vlm.rows_per_forward, or take "
    "vlm.dtype: bfloat16, vlm.quantization: 8bit or vlm.device: split. What is finished is kept"
)


def run(main: Callable[..., None], **options: Callable) -> None:
    """Call `main` with the checked params. A UserError is printed on stderr and ends the process with code 2.

    `options` are further arguments by name, each with its type: `run(main, seed=int)` reads `--seed 3` and calls
    `main(params, seed=3)`. One for which `main` has no default is required.
    """
    parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the settings (default: %(default)s)")
    for name, kind in options.items():
        default = signature(main).parameters[name].default
        if default is Parameter.empty:
            parser.add_argument(f"--{name}", type=kind, required=True)
        else:
            parser.add_argument(f"--{name}", type=kind, default=default, help="default: %(default)s")
    arguments = vars(parser.parse_args())
    try:
        main(load(arguments.pop("params")), **arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if type(error).__name__ not in OUT_OF_MEMORY:
            raise
        print(f"error: {NO_MEMORY}", file=sys.stderr)
        sys.exit(2)
