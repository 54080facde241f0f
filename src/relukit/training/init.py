"""Initialization: `relukit.init.deep_` for plain networks of any depth, `gain` for any activation of the catalogue."""

from relukit.activations import gain as gain
from relukit.monitoring._initialization import deep_ as deep_
