"""Bounds of every value in a network over an input set, and the network's compact form there; all rounded outward."""

from relukit.bounds._balance import balanced as balanced
from relukit.bounds._bounds import Bounds as Bounds
from relukit.bounds._compact import CompactNetwork as CompactNetwork
from relukit.bounds._compact import compact as compact
from relukit.bounds._interval import interval as interval
from relukit.bounds._linear import linear as linear

METHODS = {"interval": interval, "linear": linear}
