"""Exact extremes of a network's outputs over a box."""

from relukit.optimization._cross_check import cross_check as cross_check
from relukit.optimization._cross_check import second_opinion as second_opinion
from relukit.optimization._export import to_program as to_program
from relukit.optimization._optimize import Optimum as Optimum
from relukit.optimization._optimize import optimize as optimize
