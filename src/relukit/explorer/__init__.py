"""The local page: watch a network train, piece by piece, and open one's own."""

from relukit.explorer._explore import Page as Page
from relukit.explorer._explore import explore as explore
