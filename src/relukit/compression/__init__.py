"""Smaller networks that equal the original on a set."""

from relukit.compression._compress import compress as compress
from relukit.compression._result import Compression as Compression
