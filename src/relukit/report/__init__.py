"""The main job: everything that applies to one network, in one report."""

from relukit.report._data import read_data as read_data
from relukit.report._data import read_rows as read_rows
from relukit.report._open import Report as Report
from relukit.report._open import open as open
from relukit.report._regions import draw_regions as draw_regions
from relukit.report._regions import three_rows as three_rows
