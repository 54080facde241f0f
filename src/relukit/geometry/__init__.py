"""Exact geometry: the linear pieces of a network on planes and segments."""

from relukit.geometry._polygons import regions as regions
from relukit.geometry._regions import Plane as Plane
from relukit.geometry._regions import Regions as Regions
from relukit.geometry._segment import Segment as Segment
from relukit.geometry._segment import breakpoints as breakpoints
