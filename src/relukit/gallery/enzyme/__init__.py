"""Enzyme kinetics: the known law, and a small network where it ends."""

from relukit.gallery.enzyme.figures import figures as figures
from relukit.gallery.enzyme.study import fetch as fetch
from relukit.gallery.enzyme.study import score as score
from relukit.gallery.enzyme.study import train as train
