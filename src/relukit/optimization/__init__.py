"""Exact extremes of a network's outputs over a box."""

from relukit.optimization._export import to_program as to_program
from relukit.optimization._optimize import Optimum as Optimum
from relukit.optimization._optimize import optimize as optimize
