"""One-dimensional activations as values: piecewise linear, or smooth with known inflection points."""

from relukit.piecewise._abstract import AbstractActivation as AbstractActivation
from relukit.piecewise._abstract import Lines as Lines
from relukit.piecewise._linear import Hinges as Hinges
from relukit.piecewise._linear import PiecewiseLinear as PiecewiseLinear
from relukit.piecewise._smooth import Smooth as Smooth
