"""An optimization problem over networks as a mixed-integer program, for other solvers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from relukit._errors import EmptySet
from relukit._types import Array
from relukit.optimization._optimize import Domain, Networks, Question, pose
from relukit.programs import Program, encode

if TYPE_CHECKING:
    from relukit.optimization._expression import Constraint


def to_program(
    network: Networks,
    maximize: str | int | Array | None = None,
    minimize: str | int | Array | None = None,
    box: Domain = None,
    constraints: "Sequence[str | Constraint]" = (),
    integers: Sequence[int | str] = (),
    formulation: str = "big-m",
    *,
    categories: Sequence[Sequence[int | str]] = (),
    links: Sequence[str] = (),
) -> Program:
    """What `optimize` would solve, as a `Program` with columns `x0..`, `y0..`, gates and phases.

    Arguments are those of `optimize`; `formulation` is `big-m`, `sos1` or `partition`.

    Raises:
        InvalidInput: Two goals, no box, or an expression that cannot be read.
        EmptySet: An integer input's range holds no whole number, or no category is left.
    """
    return program_of(pose(network, maximize, minimize, box, constraints, integers, categories, links), formulation)


def program_of(question: Question, formulation: str = "big-m") -> Program:
    """A posed question as a program; one-hot groups become binary columns beside their inputs."""
    import scipy.sparse as sp

    problem = question.problem
    if isinstance(problem, str):
        raise EmptySet(problem)
    n, m = question.network.inputs, question.network.outputs
    program = encode(question.network, problem.box, formulation).program
    goal = question.goal
    program.cost[:n], program.cost[n : n + m], program.offset = goal.inputs, goal.outputs, goal.constant
    program.maximize = question.sign < 0
    program.integer[problem.integers] = True
    members = np.concatenate([g.members for g in problem.groups]) if problem.groups else np.zeros(0, int)
    total, extra = len(program.names), len(members)
    rows, lows, highs, names = [], [], [], []
    for k, c in enumerate(problem.constraints):
        rows.append(sp.csr_matrix(np.concatenate([c.inputs, c.outputs, np.zeros(total + extra - n - m)])[None]))
        lows.append(-c.constant if c.equal else -np.inf)
        highs.append(-c.constant)
        names.append(f"constraint{k}")
    at = total
    for g in problem.groups:  # x = off + (on - off) choice
        for j, off, on in zip(g.members, g.off, g.on):
            rows.append(sp.csr_matrix(([1.0, off - on], ([0, 0], [j, at])), shape=(1, total + extra)))
            lows.append(off)
            highs.append(off)
            names.append(f"choice{at - total}")
            at += 1
    if rows:
        program.A = sp.vstack([sp.hstack([program.A, sp.csr_matrix((program.A.shape[0], extra))]), *rows]).tocsr()
        program.row_lower, program.row_upper = np.r_[program.row_lower, lows], np.r_[program.row_upper, highs]
        program.row_names += names
    program.names += [f"c{j}" for j in members]
    program.lower, program.upper = np.r_[program.lower, np.zeros(extra)], np.r_[program.upper, np.ones(extra)]
    program.integer = np.r_[program.integer, np.ones(extra, bool)]
    program.cost = np.r_[program.cost, np.zeros(extra)]
    return program
