"""What an answer says it cost: its own work, and the loading of code beside it."""

import json
import subprocess
import sys
import textwrap
import time

from relukit._clock import Clock, loading


def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_loading_is_counted_apart_and_once_where_nested():
    clock = Clock()
    burn(0.05)
    with loading():
        burn(0.03)
        with loading():
            burn(0.03)
    assert 0.05 <= clock.seconds < 0.06 and 0.06 <= clock.loading < 0.08


def test_loading_that_fails_is_counted_as_well():
    clock = Clock()
    try:
        with loading():
            burn(0.02)
            raise ImportError
    except ImportError:
        pass
    assert clock.loading >= 0.02 and clock.seconds < 0.01


def test_a_first_answer_and_a_second_one_name_the_same_work():
    code = """
        import json, time, numpy as np, relukit
        rng = np.random.default_rng(0)
        net = relukit.load({"W0": rng.normal(size=(16, 2)), "b0": rng.normal(size=16), "W1": rng.normal(size=(1, 16)), "b1": np.zeros(1)})
        spent, _ = [], relukit.optimize  # the module itself is imported before the clock starts
        for _ in range(2):
            began = time.process_time()
            found = relukit.optimize(net, "y[0]", box=relukit.Box(-np.ones(2), np.ones(2)), tolerance=1e-9)
            spent.append((found.engine, found.cpu_seconds, found.load_seconds, time.process_time() - began))
        print(json.dumps(spent))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    first, second = json.loads(done.stdout)
    assert first[0] == second[0] == "input splitting"
    assert first[2] > 5 * first[1], "the first answer loads compiled loops, and says so"
    assert second[2] < 1e-3
    for _, work, load, whole in (first, second):
        assert abs(work + load - whole) < 0.01
