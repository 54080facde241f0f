"""Sets of inputs: boxes, balls, polytopes; all take a leading batch of sets."""

from relukit.sets._abstract import AbstractSet as AbstractSet
from relukit.sets._abstract import require_set as require_set
from relukit.sets._ball import Ball as Ball
from relukit.sets._box import Box as Box
from relukit.sets._polytope import Polytope as Polytope
