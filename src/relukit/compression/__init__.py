"""Smaller networks that equal the original on a set."""

from relukit.compression._compress import Compression as Compression
from relukit.compression._compress import compress as compress
