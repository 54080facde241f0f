"""Gymnasium's CarRacing from pixels by imitation."""

from relukit.gallery.car_racing.figures import figures as figures
from relukit.gallery.car_racing.study import fetch as fetch
from relukit.gallery.car_racing.study import score as score
from relukit.gallery.car_racing.study import train as train
