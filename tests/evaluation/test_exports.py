from __future__ import annotations

from grip_core.evaluation.exports import code_hash

CODE = '''"""A module."""

class Pair:
    """Two numbers."""

    one: int = 1
    """The first."""

def total(pair):
    return pair.one + 2
'''


def test_words_and_layout_of_a_module_do_not_count_but_what_it_does_does(tmp_path):
    def hashed(text: str) -> str:
        path = tmp_path / "module.py"
        path.write_text(text)
        return code_hash(path)

    same = (
        CODE.replace("Two numbers", "Some")
        .replace("The first", "It")
        .replace("+ 2", "+ 2  # more")
        .replace("one +", "one+")
    )
    assert same != CODE
    assert hashed(same) == hashed(CODE)
    others = [
        CODE.replace("one: int = 1", "one: int = 2"),
        CODE.replace("+ 2", "- 2"),
        CODE.replace("pair.one", "pair.two"),
    ]
    assert len({hashed(CODE), *map(hashed, others)}) == 4
