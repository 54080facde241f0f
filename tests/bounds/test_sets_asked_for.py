"""Every verb that takes a set says what to write where a bare pair arrives; asked in a process of its own, where no test checks types."""

import subprocess
import sys
import textwrap

ASK = """
    import numpy as np, relukit
    from relukit import bounds
    from relukit.verification import lipschitz, output_range

    rng = np.random.default_rng(0)
    net = relukit.load({"W0": rng.normal(size=(8, 2)), "b0": np.ones(8), "W1": rng.normal(size=(2, 8)), "b1": np.zeros(2)})
    pair = ([-1.0, -1.0], [1.0, 1.0])
    verbs = {
        "optimize": lambda: relukit.optimize(net, "y[0]", box=pair),
        "regions": lambda: relukit.regions(net, pair),
        "compress": lambda: relukit.compress(net, pair),
        "linear": lambda: bounds.linear(net, pair),
        "interval": lambda: bounds.interval(net, pair),
        "health": lambda: relukit.health(net, np.zeros((3, 2)), box=pair),
        "flip": lambda: relukit.flip(net, np.zeros(2), within=pair),
        "output_range": lambda: output_range(net, pair),
        "lipschitz": lambda: lipschitz(net, pair),
    }
    for name, ask in verbs.items():
        try:
            print(name, "answered", ask())
        except relukit.InvalidInput as error:
            assert "got tuple" in str(error) and "relukit.Box(lower, upper)" in str(error), error
            print(name, "refused")
"""


def test_a_bare_pair_is_refused_with_what_to_write():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(ASK)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[:-1]
    assert len(lines) == 9 and all(line.endswith(" refused") for line in lines), lines
