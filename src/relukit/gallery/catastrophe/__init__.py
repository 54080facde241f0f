"""Floods and hurricanes: expected loss that grows with depth and value by construction."""

from relukit.gallery.catastrophe.figures import figures as figures
from relukit.gallery.catastrophe.portfolio import expected_loss as expected_loss
from relukit.gallery.catastrophe.study import fetch as fetch
from relukit.gallery.catastrophe.study import score as score
from relukit.gallery.catastrophe.study import train as train
