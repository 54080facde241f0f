"""Exact geometry: the linear pieces of a network in boxes, on planes and along segments."""

from relukit.geometry._cells import Cells as Cells
from relukit.geometry._pieces import regions as regions
from relukit.geometry._pieces import stream as stream
from relukit.geometry._regions import Plane as Plane
from relukit.geometry._regions import Regions as Regions
from relukit.geometry._segment import Segment as Segment
from relukit.geometry._segment import breakpoints as breakpoints
