"""An optimization problem over a network as a mixed-integer program, for other solvers."""

from collections.abc import Sequence

import numpy as np

from relukit._errors import InvalidInput
from relukit.network import Network
from relukit.optimization._expression import parse_constraint, parse_linear
from relukit.programs import Program, encode
from relukit.sets import Box


def to_program(
    network: Network,
    maximize: str | None = None,
    minimize: str | None = None,
    box: Box | None = None,
    constraints: Sequence[str] = (),
    integers: Sequence[int] = (),
    formulation: str = "big-m",
) -> Program:
    """What `optimize` would solve, as a `Program` with columns `x0..`, `y0..`, gates and phases.

    Arguments are those of `optimize`; `formulation` is `big-m` or `sos1`.

    Raises:
        InvalidInput: No goal or two, no box, or an expression that cannot be read.
    """
    import scipy.sparse as sp

    if (maximize is None) == (minimize is None):
        raise InvalidInput("give either maximize or minimize")
    box = network.box if box is None else box
    if box is None:
        raise InvalidInput(f"a box of the {network.inputs} inputs is needed; the network brings none of its own")
    goal = parse_linear(maximize or minimize or "", network.inputs, network.outputs)
    program = encode(network, box, formulation).program
    n, m, total = network.inputs, network.outputs, len(program.names)
    program.cost[:n], program.cost[n : n + m], program.offset = goal.inputs, goal.outputs, goal.constant
    program.maximize = maximize is not None
    program.integer[list(integers)] = True
    for k, text in enumerate(constraints):
        c = parse_constraint(text, n, m)
        row = sp.csr_matrix((1, total), dtype=float).tolil()
        row[0, :n], row[0, n : n + m] = c.inputs, c.outputs
        program.A = sp.vstack([program.A, row.tocsr()]).tocsr()
        program.row_upper = np.append(program.row_upper, -c.constant)
        program.row_lower = np.append(program.row_lower, -c.constant if c.equal else -np.inf)
        program.row_names.append(f"constraint{k}")
    return program
