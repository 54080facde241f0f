"""A solver's wrong optimum is found out and named; a right one passes."""

import gzip
import shutil

import numpy as np
import pytest

import relukit
from relukit import SolverDisagreement
from relukit.activations import get
from relukit.network import from_layers
from relukit.optimization import cross_check, second_opinion

OPTIMUM = -4.958991  # of adv_digits_50x50_l1_e0.1, by two independent programs


def test_highs_on_its_wrong_case_agrees_or_is_named(data_folder, tmp_path):
    """HiGHS 1.15.1 calls -7.2025 optimal on this model; 1.16 is right. Either way the independent bound decides."""
    import highspy

    folder = data_folder / "bench" / "optimize"
    with gzip.open(folder / "highs_wrong_optimum.mps.gz") as packed, open(tmp_path / "m.mps", "wb") as plain:
        shutil.copyfileobj(packed, plain)
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("parallel", "off")
    solver.readModel(str(tmp_path / "m.mps"))
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    says = solver.getObjectiveValue()
    found = relukit.optimize(relukit.load(folder / "adv_digits_50x50_l1_e0.1.npz"), "y[3] - y[2]")
    assert found.status == "optimal" and abs(found.value - OPTIMUM) < 1e-3
    if abs(says - OPTIMUM) < 1e-3:
        cross_check(found, "HiGHS", says, says, True)
    else:
        with pytest.raises(SolverDisagreement, match="HiGHS"):
            cross_check(found, "HiGHS", says, says, True)
    with pytest.raises(SolverDisagreement, match=r"HiGHS 1\.15\.1 says that nothing lies beyond -7\.2025"):
        cross_check(found, "HiGHS 1.15.1", -7.2025, -7.2025, True)


def small():
    g = np.random.default_rng(3)
    sizes = [3, 8, 6, 2]
    weights = [g.standard_normal((b, a)) for a, b in zip(sizes[:-1], sizes[1:])]
    return from_layers(weights, [g.standard_normal(b) for b in sizes[1:]], [get("relu")] * 2)


@pytest.mark.parametrize("goal", [{"maximize": "y[0]"}, {"minimize": "y[0] - 2*y[1]"}])
def test_a_second_opinion_agrees(goal):
    box = relukit.Box(-np.ones(3), np.ones(3))
    found, opinion = second_opinion(small(), box=box, constraints=["x[0] + x[1] <= 0.5"], **goal)
    assert found.status == "optimal" and opinion["agrees"]
    assert abs(opinion["value"] - found.value) < 1e-3 * max(1, abs(found.value))


def test_a_point_beyond_the_proven_bound_is_refused():
    box = relukit.Box(-np.ones(3), np.ones(3))
    found = relukit.optimize(small(), "y[0]", box=box)
    with pytest.raises(SolverDisagreement, match="out of reach"):
        cross_check(found, "a solver", found.bound + 1, found.bound + 1, True)
    low = relukit.optimize(small(), minimize="y[0]", box=box)
    with pytest.raises(SolverDisagreement, match="nothing lies beyond"):
        cross_check(low, "a solver", low.value + 1, low.value + 1, False)
