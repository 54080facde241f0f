"""Small random convolutional networks, and an exact oracle for them: matrices from torch's convolution, minima by HiGHS."""

import numpy as np
import scipy.optimize
import torch

from relukit.network import Affine, Input, Network, Node
from relukit.network.affine import Conv, Dense, Gather, Identity, Scale
from tests.strategies import RELU


def random_conv(g, shape, channels, groups=1):
    """A convolution with odd strides, paddings and dilations, and its matrix by torch."""
    C, H, W = shape
    size = [int(g.integers(1, 4)), int(g.integers(1, 4))]
    dilation = tuple(int(g.integers(1, 3)) if s > 1 else 1 for s in size)
    padding = tuple(int(g.integers(0, 3)) for _ in range(4))
    size = [1 if (s - 1) * d >= h + p else s for s, d, h, p in zip(size, dilation, (H, W), (padding[0] + padding[2], padding[1] + padding[3]))]  # fmt: skip
    stride = (int(g.integers(1, 3)), int(g.integers(1, 3)))
    kernel = g.standard_normal((channels, C // groups, *size)) / np.sqrt(C * size[0] * size[1] / groups)
    conv = Conv(kernel, shape, stride, padding, dilation, groups)
    return conv, by_torch(conv)


def by_torch(conv):
    """The matrix of a convolution as torch computes it."""
    C, H, W = conv.in_shape
    top, left, bottom, right = conv.padding
    hot = torch.eye(C * H * W, dtype=torch.float64).reshape(-1, C, H, W)
    hot = torch.nn.functional.pad(hot, (left, right, top, bottom))
    out = torch.nn.functional.conv2d(hot, torch.from_numpy(conv.kernel.copy()), None, conv.stride, 0, conv.dilation, conv.groups)  # fmt: skip
    return out.reshape(C * H * W, -1).numpy().T


class Builder:
    """A network node by node, with the same as plain matrices: `steps[i]` is None or a list of (matrix, input) and a bias."""

    def __init__(self, shape):
        self.nodes = [Node(Input(int(np.prod(shape))), (), shape, "input")]
        self.steps = ["input"]

    def affine(self, parts, bias, shape):
        """`parts`: (map, matrix, input node)."""
        maps = tuple(m for m, _, _ in parts)
        k = len(self.nodes)
        self.nodes.append(Node(Affine(maps, bias), tuple(j for _, _, j in parts), shape, f"affine{k}"))
        self.steps.append(([(M, j) for _, M, j in parts], bias))
        return k

    def relu(self, j):
        self.nodes.append(Node(RELU, (j,), self.nodes[j].shape, f"relu{len(self.nodes)}"))
        self.steps.append(j)
        return len(self.nodes) - 1

    def network(self):
        return Network(tuple(self.nodes), dtype=np.dtype(np.float64))


def random_network(seed):
    """Convolution, then by chance a residual block, a grouped convolution, average pooling, a selection; dense rows last."""
    g = np.random.default_rng(seed)
    shape = (int(g.integers(1, 3)), int(g.integers(3, 5)), int(g.integers(3, 5)))
    b = Builder(shape)
    conv, M = random_conv(g, shape, 2)
    last = b.relu(b.affine([(conv, M, 0)], g.standard_normal(conv.out_size) / 3, conv.out_shape))
    if seed % 2:  # a residual block that keeps the shape, with a scaled shortcut now and then
        C, H, W = b.nodes[last].shape
        same = Conv(g.standard_normal((C, C, 3, 3)) / 4, (C, H, W), (1, 1), (1, 1, 1, 1))
        inner = b.affine([(same, by_torch(same), last)], g.standard_normal(C * H * W) / 3, (C, H, W))
        if seed % 4 == 1:
            size = C * H * W
            shortcut = (
                (Identity(size), np.eye(size), last)
                if seed % 8 == 1
                else (lambda d: (Scale(d), np.diag(d), last))(g.random(size))
            )
            again = Conv(g.standard_normal((C, C, 3, 3)) / 4, (C, H, W), (1, 1), (1, 1, 1, 1))
            inner = b.affine([(again, by_torch(again), b.relu(inner)), shortcut], np.zeros(size), (C, H, W))
        last = b.relu(inner)
    if seed % 3 == 0:  # depthwise average pooling
        C, H, W = b.nodes[last].shape
        if H > 1 and W > 1:
            pool = Conv(np.full((C, 1, 2, 2), 0.25), (C, H, W), (1, 1), (0, 0, 0, 0), (1, 1), C)
            last = b.affine([(pool, by_torch(pool), last)], np.zeros(pool.out_size), pool.out_shape)
    size = b.nodes[last].size
    pick = np.sort(g.permutation(size)[: max(size // 2, 1)])
    S = np.eye(size)[pick]
    last = b.affine([(Gather(pick, size), S, last)], np.zeros(len(pick)), (len(pick),))
    V = g.standard_normal((3, len(pick))) / np.sqrt(len(pick))
    last = b.relu(b.affine([(Dense(V), V, last)], g.standard_normal(3) / 3, (3,)))
    V = g.standard_normal((2, 3))
    b.affine([(Dense(V), V, last)], g.standard_normal(2) / 3, (2,))
    center = g.random(b.nodes[0].size)
    width = g.choice([0.1, 0.3, 0.6])
    return b, center - width, center + width


def milp_minimum(builder, row, lower, upper):
    """The exact minimum of `row . y` over a box by big-M with interval bounds; HiGHS, gap 0."""
    lows, highs, first = [np.asarray(lower)], [np.asarray(upper)], [0]
    for step in builder.steps[1:]:
        if isinstance(step, int):
            lows.append(np.maximum(lows[step], 0))
            highs.append(np.maximum(highs[step], 0))
        else:
            parts, bias = step
            lows.append(bias + sum(np.maximum(M, 0) @ lows[j] + np.minimum(M, 0) @ highs[j] for M, j in parts))
            highs.append(bias + sum(np.maximum(M, 0) @ highs[j] + np.minimum(M, 0) @ lows[j] for M, j in parts))
    sizes = [len(v) for v in lows]
    first = np.concatenate([[0], np.cumsum(sizes)])
    gates = [i for i, s in enumerate(builder.steps) if isinstance(s, int)]
    at = {i: first[-1] + sum(sizes[j] for j in gates if j < i) for i in gates}
    total = first[-1] + sum(sizes[i] for i in gates)
    A, lo, hi = [], [], []

    def add(entries, low, high):
        r = np.zeros(total)
        for k, v in entries:
            r[k] += v
        A.append(r), lo.append(low), hi.append(high)

    for i, step in enumerate(builder.steps[1:], start=1):
        for u in range(sizes[i]):
            here = first[i] + u
            if isinstance(step, int):
                z, d, L, U = first[step] + u, at[i] + u, min(lows[step][u], 0), max(highs[step][u], 0)
                add([(here, 1), (z, -1)], 0, np.inf)
                add([(here, 1), (z, -1), (d, -L)], -np.inf, -L)  # h <= z - L (1 - d)
                add([(here, 1), (d, -U)], -np.inf, 0)
            else:
                entries = [(here, 1.0)]
                for M, j in step[0]:
                    entries += [(first[j] + k, -M[u, k]) for k in np.flatnonzero(M[u])]
                add(entries, step[1][u], step[1][u])
    cost = np.zeros(total)
    cost[first[len(sizes) - 1] : first[len(sizes)]] = row
    binary = np.concatenate([np.zeros(first[-1]), np.ones(total - first[-1])])
    bounds = scipy.optimize.Bounds(np.concatenate([*lows, binary * 0][:-1] + [np.zeros(total - first[-1])]), np.concatenate([*highs, np.ones(total - first[-1])]))  # fmt: skip
    found = scipy.optimize.milp(cost, constraints=scipy.optimize.LinearConstraint(np.array(A), lo, hi), bounds=bounds, integrality=binary, options={"mip_rel_gap": 0})  # fmt: skip
    assert found.status == 0, found.message
    return found.fun
