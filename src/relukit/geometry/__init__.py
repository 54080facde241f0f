"""Linear pieces."""

from relukit.geometry._polygons import Plane as Plane
from relukit.geometry._polygons import Regions as Regions
from relukit.geometry._polygons import regions as regions
