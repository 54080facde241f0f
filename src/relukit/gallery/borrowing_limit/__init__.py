"""A household at its borrowing limit: a ReLU network solves the model, and its kink is a hinge."""

from relukit.gallery.borrowing_limit.study import fetch as fetch
from relukit.gallery.borrowing_limit.study import figures as figures
from relukit.gallery.borrowing_limit.study import score as score
from relukit.gallery.borrowing_limit.study import train as train

NEEDS_TRAINING = False  # `score` solves the calibration it is given
