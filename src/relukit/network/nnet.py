"""The `.nnet` text format of the ACAS Xu networks."""

from pathlib import Path

import numpy as np

from relukit._errors import UnreadableFile
from relukit.network._network import Network
from relukit.network._nodes import Origin
from relukit.network.arrays import from_layers
from relukit.network.rewrite import RELU
from relukit.sets import Box


def read_nnet(path: Path) -> Network:
    """Read a `.nnet` file; inputs stay normalized as in the file, and its input limits become the default box.

    Raises:
        UnreadableFile: Too few numbers, or text where a number should be.
    """
    try:
        lines = [
            line.split(",")
            for line in path.read_text(encoding="ascii").splitlines()
            if line.strip() and not line.startswith("//")
        ]
        number = lambda row: [float(v) for v in row if v.strip()]
        layers, inputs = (int(v) for v in lines[0][:2])
        sizes = [int(v) for v in number(lines[1])]
        low, high, mean, spread = (np.array(number(lines[k])) for k in range(3, 7))
        weights, biases, at = [], [], 7
        for k in range(layers):
            rows = sizes[k + 1]
            weights.append(np.array([number(line) for line in lines[at : at + rows]]))
            biases.append(np.array([number(line)[0] for line in lines[at + rows : at + 2 * rows]]))
            at += 2 * rows
            if weights[-1].shape != (rows, sizes[k]) or len(biases[-1]) != rows:
                raise ValueError(f"layer {k} is incomplete")
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path} is no complete .nnet file: {error}") from error
    network = from_layers(weights, biases, [RELU] * (layers - 1), np.float32, Origin("nnet", path))
    box = Box((low - mean[:inputs]) / spread[:inputs], (high - mean[:inputs]) / spread[:inputs])
    note = "inputs are normalized as (x - mean) / range; outputs are not scaled back"
    return network.with_(box=box, notes=(note,), extras={"mean": mean, "range": spread})
