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
SAME = CODE.replace("Two numbers", "Some").replace("The first", "It").replace("+ 2", "+ 2  # more")
OTHERS = [CODE.replace("int = 1", "int = 2"), CODE.replace("+ 2", "- 2"), CODE.replace("pair.one", "pair.two")]


def test_words_and_layout_of_a_module_do_not_count_but_what_it_does_does(tmp_path):
    hashes = []
    for i, text in enumerate([CODE, SAME, *OTHERS]):
        path = tmp_path / f"{i}.py"
        path.write_text(text)
        hashes.append(code_hash(path))
    assert SAME != CODE
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
