"""Networks of one input: the curve, drawn from corner to corner, and the places where it bends."""

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit.report._page import Section, legend
from relukit.report._sections import Context
from relukit.report._svg import broken_line, color
from relukit.sets import Box

_OUTPUTS = 10  # as many as there are colors


def line_section(c: Context) -> Section:
    """The linear pieces of a network of one input over its box."""
    from relukit.geometry import regions

    n = c.require()
    box = c.box
    if box is None:
        c.rows()
    assert box is not None  # rows have a range
    low, high = float(box.lower[0]), float(box.upper[0])
    if not low < high:
        raise UnsupportedOperation(
            f"the input does not move: it is {low:.6g} in every row; give a wider range with --box LO:HI"
        )
    found = regions(n, Box([low], [high]))
    x = np.unique(found.vertices)
    y = n(x[:, None])[:, :_OUTPUTS]
    names = [f"output {k}" for k in range(y.shape[1])] if n.outputs > 1 else ["output"]
    bends = x[1:-1]
    where = f"{low:.6g} to {high:.6g}"
    more = f" The first {_OUTPUTS} of {n.outputs} outputs are drawn." if n.outputs > _OUTPUTS else ""
    before = f", before the last {n.head}" if n.head else ""
    listed = ", ".join(f"{v:.5g}" for v in bends[:40]) + (f", and {len(bends) - 40:,} more" if len(bends) > 40 else "")
    words = (
        f"<p>From {where} ({c.box_source}) the network is a broken line of <b>{len(found):,} linear piece{'' if len(found) == 1 else 's'}</b>{before}: "
        f"between two of its breakpoints it is exactly straight.{more}</p>"
    )
    after = f"<p class='quiet'>Breakpoints: {listed}.</p>" if len(bends) else ""
    key = legend([(color(k), name) for k, name in enumerate(names)]) if n.outputs > 1 else ""
    return Section(
        "regions",
        "Its linear pieces",
        words + broken_line(x, y, names) + key + after,
        facts=[("linear pieces", f"{len(found):,}")],
        data={"count": len(found), "breakpoints": bends.tolist(), "vertices": len(x), "where": where},
    )
