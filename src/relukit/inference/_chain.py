"""All layers of a small network in one compiled call.

A layer of 64 units takes less than a microsecond, a call from Python about one: for small networks calls are what inference costs.
"""

import numpy as np

from relukit._numba import njit
from relukit._types import Array, IntArray
from relukit.inference._layers import Layer

LARGEST = 1 << 19  # weights: 2 MiB, what the second-level cache holds
_WIDE = 16  # units from which a layer is added up column by column, without sums across a vector


def flatten(layers: list[Layer]) -> tuple[Array, IntArray] | None:
    """Weights and biases one after another, and the sizes of the layers; None where the network is too large or has other activations."""
    if not all(layer.is_relu for layer in layers[:-1]) or not layers or layers[-1].activation is not None:
        return None
    if sum(layer.W.size + layer.b.size for layer in layers) > LARGEST:
        return None
    parts = [v.ravel() for layer in layers for v in (layer.W.T if len(layer.b) >= _WIDE else layer.W, layer.b)]
    sizes = [layers[0].W.shape[1], *(len(layer.b) for layer in layers)]
    return np.ascontiguousarray(np.concatenate(parts), np.float32), np.array(sizes, np.int64)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def evaluate(flat, sizes, X, Y):
    """Y receives the outputs for rows X; zeros between layers are passed over."""
    widest = 0
    for k in range(sizes.shape[0]):
        widest = max(widest, sizes[k])
    values = np.empty((2, widest), np.float32)
    listed = np.empty(widest + 1, np.int64)
    last = sizes.shape[0] - 2
    for t in range(X.shape[0]):
        x, at = X[t], 0
        for k in range(last + 1):
            n, m = sizes[k], sizes[k + 1]
            y = Y[t] if k == last else values[k % 2]
            bias = at + n * m
            if m >= _WIDE:
                count = 0
                for j in range(n):
                    listed[count] = j
                    count += x[j] != 0
                for i in range(m):
                    y[i] = flat[bias + i]
                c = 0
                while c + 4 <= count:
                    d, e, f, g = listed[c], listed[c + 1], listed[c + 2], listed[c + 3]
                    p, q, r, s = at + d * m, at + e * m, at + f * m, at + g * m
                    u, v, w, z = x[d], x[e], x[f], x[g]
                    for i in range(m):
                        y[i] += (u * flat[p + i] + v * flat[q + i]) + (w * flat[r + i] + z * flat[s + i])
                    c += 4
                while c < count:
                    d = listed[c]
                    p, u = at + d * m, x[d]
                    for i in range(m):
                        y[i] += u * flat[p + i]
                    c += 1
            else:
                for i in range(m):
                    p, total = at + i * n, np.float32(0)
                    for j in range(n):
                        total += flat[p + j] * x[j]
                    y[i] = total + flat[bias + i]
            if k < last:
                for i in range(m):
                    y[i] = np.float32(0) if y[i] <= 0 else y[i]
            at, x = bias + m, y
