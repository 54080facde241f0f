"""From speed and steering to yaw rate and turning radius: a formula and a ReLU residual, on real race-car logs."""

from relukit.gallery.car.figures import figures as figures
from relukit.gallery.car.study import fetch as fetch
from relukit.gallery.car.study import score as score
from relukit.gallery.car.study import steering_for as steering_for
from relukit.gallery.car.study import train as train
