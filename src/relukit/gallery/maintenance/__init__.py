"""Machines that will fail, told before they do: turbofan engines, a milling process, cutting tools."""

from relukit.gallery.maintenance.figures import figures as figures
from relukit.gallery.maintenance.stream import use as use
from relukit.gallery.maintenance.study import fetch as fetch
from relukit.gallery.maintenance.study import score as score
from relukit.gallery.maintenance.study import train as train
