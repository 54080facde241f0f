"""Exact geometry: the linear pieces of a network in boxes, on planes and along segments; one input explained."""

from relukit.geometry._cells import Cells as Cells
from relukit.geometry._explain import Explanation as Explanation
from relukit.geometry._explain import explain as explain
from relukit.geometry._forces import Forces as Forces
from relukit.geometry._forces import forces as forces
from relukit.geometry._limits import limits as limits
from relukit.geometry._pieces import regions as regions
from relukit.geometry._pieces import stream as stream
from relukit.geometry._plane import plane_of_inputs as plane_of_inputs
from relukit.geometry._plane import plane_through as plane_through
from relukit.geometry._plane import polygon as polygon
from relukit.geometry._regions import Plane as Plane
from relukit.geometry._regions import Regions as Regions
from relukit.geometry._segment import Segment as Segment
from relukit.geometry._segment import breakpoints as breakpoints
