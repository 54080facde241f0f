"""The main job: everything that applies to one network, in one report."""

from relukit.report._open import Report as Report
from relukit.report._open import open as open
