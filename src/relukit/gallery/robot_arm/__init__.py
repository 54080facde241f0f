"""ReLU against sigmoid as a controller's nonlinearity: natural frequency and damping of a robot arm."""

from relukit.gallery.robot_arm.figures import figures as figures
from relukit.gallery.robot_arm.study import fetch as fetch
from relukit.gallery.robot_arm.study import score as score
from relukit.gallery.robot_arm.study import train as train

NEEDS_TRAINING = False  # the closed loop of the plain laws needs nothing that was trained
