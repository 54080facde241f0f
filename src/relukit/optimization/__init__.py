"""Exact extremes of networks, points that satisfy constraints, and the closest ones."""

from relukit.optimization._cross_check import cross_check as cross_check
from relukit.optimization._cross_check import second_opinion as second_opinion
from relukit.optimization._export import to_program as to_program
from relukit.optimization._joint import join as join
from relukit.optimization._optimize import Optimum as Optimum
from relukit.optimization._optimize import optimize as optimize
from relukit.optimization._questions import Argmax as Argmax
from relukit.optimization._questions import argmax as argmax
from relukit.optimization._questions import closest as closest
from relukit.optimization._questions import counterfactual as counterfactual
from relukit.optimization._questions import invert as invert
from relukit.optimization._questions import satisfy as satisfy
from relukit.optimization._scaling import scaled as scaled
