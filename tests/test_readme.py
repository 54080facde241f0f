"""The README's example runs as it stands."""

import re
from pathlib import Path


def test_library_example(capsys):
    text = (Path(__file__).parents[1] / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 1
    exec(compile(blocks[0], "README.md", "exec"), {})
    said = capsys.readouterr().out
    for word in ("Dense 64 -> 64", "Health(", "Regions(", "Flip(", "Compression("):
        assert word in said
