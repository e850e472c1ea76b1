"""Ask a pruned VLM about an image, at several shares of its visual tokens.

    python examples/answer.py photo.jpg "What is on the table?" --vlm llava-hf/llava-1.5-7b-hf --scorer my-scorer

After `make repro`, without --vlm and --scorer, this asks the embedded VLM, with the scorer of the first training seed.
"""

from __future__ import annotations

import argparse
import sys

from grip_core.errors import UserError
from grip_core.model import GripModel
from grip_core.places import VLM, train_run


def share(text: str) -> float:
    """A share of the visual tokens."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, but got {text}")
    return value


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="file of an image")
    parser.add_argument("question")
    parser.add_argument("--vlm", default=str(VLM), help="folder or hub id (default: %(default)s)")
    parser.add_argument(
        "--scorer", default=str(train_run(0) / "scorer"), help="folder or hub id (default: %(default)s)"
    )
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--keep-ratios", type=share, nargs="+", default=[1.0, 0.25, 0.1, 0.05])
    arguments = parser.parse_args()
    try:
        model = GripModel.from_pretrained(arguments.vlm, arguments.scorer, dtype=arguments.dtype)
        for ratio in arguments.keep_ratios:
            (answer,) = model.generate([arguments.image], [arguments.question], keep_ratio=ratio)
            print(f"{ratio:5.0%}  {answer}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
