"""A HiGHS solver that says nothing."""

import os
import sys
from typing import Any

_greeted = False


def quiet_highs() -> Any:
    """A `highspy.Highs` with one thread and no output.

    The first solver of a process prints a banner to the C library's standard output before any option can be set, and
    would spoil `--json`; it is sent to the null device.
    """
    global _greeted
    import highspy

    if _greeted:
        solver = highspy.Highs()
    else:
        sys.stdout.flush()
        kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 1)
            solver = highspy.Highs()
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            os.close(null)
        _greeted = True
    solver.setOptionValue("output_flag", False)
    # Not `threads`: a process has one pool for all solvers, and a number other than that of the first is an error.
    solver.setOptionValue("parallel", "off")
    return solver
