"""Digits, cats and dogs, and the smallest push that flips a decision."""

from relukit.gallery.images.figures import figures as figures
from relukit.gallery.images.study import fetch as fetch
from relukit.gallery.images.study import score as score
from relukit.gallery.images.study import train as train
