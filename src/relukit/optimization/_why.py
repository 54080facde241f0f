"""Why nothing is feasible: the constraint that an output's exact range excludes, or the constraints that exclude each other."""

import time

import numpy as np

from relukit.optimization._expression import Constraint, Linear, Scope
from relukit.optimization._portfolio import run
from relukit.optimization._problem import Problem


def why_infeasible(problem: Problem, scope: Scope, timeout: float) -> str:
    """One or more sentences.

    Each constraint alone is tried against the exact range of its expression. Where none fails alone, constraints are left out
    one by one as long as the rest stays infeasible: what remains excludes each other, and each is needed for it.
    """
    stop = time.perf_counter() + timeout
    texts = list(dict.fromkeys(c.text for c in problem.constraints))
    alone = []
    for text in texts:
        mine = [c for c in problem.constraints if c.text == text]
        if time.perf_counter() < stop and _fails(problem, mine, stop):
            alone.append(_alone(problem, mine, scope, stop))
    if alone:
        return "; ".join(alone)
    kept, complete = list(texts), True
    for text in texts:
        if len(kept) < 2:
            break
        if time.perf_counter() > stop:
            complete = False
            break
        rest = [t for t in kept if t != text]
        if _fails(problem, [c for c in problem.constraints if c.text in rest], stop):
            kept = rest
    if not kept:
        return "no point of the domain is allowed"
    said = "these constraints exclude each other: " + "; ".join(kept)
    return said if complete else said + " (time was up before it was known whether all of them are needed)"


def _fails(problem: Problem, constraints: list[Constraint], stop: float) -> bool:
    """Whether these constraints alone are proven to have no point."""
    nothing = Linear(0 * problem.goal.inputs, 0 * problem.goal.outputs, 0.0)
    own = [c for c in problem.constraints if c.text.startswith("exactly one of")]
    texts = {c.text for c in constraints}
    rules = (*constraints, *(c for c in own if c.text not in texts))
    part = Problem(problem.network, problem.box, nothing, rules, problem.integers, problem.groups)
    found = run(part, 1e-4, max(min(5.0, stop - time.perf_counter()), 0.05), 0, None, None, True)
    return found.witness is None and found.bound == np.inf


def _alone(problem: Problem, mine: list[Constraint], scope: Scope, stop: float) -> str:
    """Why one constraint fails by itself."""
    said, low, high = _range(problem, mine[0], scope, stop)
    first, least, most = mine[0], -np.inf, np.inf  # what the expression would have to be
    for c in mine:
        if np.array_equal(c.inputs, first.inputs) and np.array_equal(c.outputs, first.outputs):
            most = min(most, -c.constant)
            least = max(least, -c.constant) if c.equal else least
        else:
            least = max(least, c.constant)
    if (len(problem.integers) or problem.groups) and max(least, low) <= min(most, high):
        return f"'{first.text}' cannot hold for any of the whole numbers and categories that are allowed"
    return f"'{mine[0].text}' cannot hold: {said} on the whole domain"


def _range(problem: Problem, c: Constraint, scope: Scope, stop: float) -> tuple[str, float, float]:
    """The range of a constraint's expression on the domain, by its name where it is a single variable; and its ends."""
    used = np.concatenate([c.inputs, c.outputs])
    at = np.flatnonzero(used)
    factor = float(used[at[0]]) if len(at) == 1 else float(np.sign(used[at[0]]))  # a >= was turned round
    name = (
        _name(scope, int(at[0]), len(c.inputs))
        if len(at) == 1
        else "its expression " + _written(scope, used / factor, len(c.inputs))
    )
    row = Linear(c.inputs / factor, c.outputs / factor, 0.0)
    ends = []
    for sign in (1.0, -1.0):
        part = Problem(problem.network, problem.box, row.times(sign), (), problem.integers, ())
        found = run(part, 1e-4, max(min(3.0, stop - time.perf_counter()), 0.05), 0, None)
        ends.append(sign * found.bound)
    low, high = sorted(factor * end for end in ends)
    return f"{name} lies in [{ends[0]:.6g}, {ends[1]:.6g}]", low, high


def _written(scope: Scope, row: np.ndarray, inputs: int) -> str:
    at = np.flatnonzero(row)
    terms = [f"{row[j]:+.6g}*{_name(scope, int(j), inputs)}" for j in at[:6]]
    return " ".join(terms) + (" ..." if len(at) > 6 else "")


def _name(scope: Scope, j: int, inputs: int) -> str:
    """`x[3]`, `y[0]`, `a.x[3]`: the variable at a place of the joint inputs and outputs."""
    for name, part in scope.parts.items():
        before = f"{name}." if name else ""
        if j < inputs:
            own = np.flatnonzero(part.inputs == j)
            if len(own):
                return f"{before}x[{own[0]}]"
        elif part.first <= j - inputs < part.first + part.outputs:
            return f"{before}y[{j - inputs - part.first}]"
    return f"variable {j}"
