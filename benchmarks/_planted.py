"""Networks with planted dead, copied and unread channels: how many are found; and a VGG-like network within its time."""

import numpy as np

import relukit

COUNT = 2  # of each kind in each convolution


def planted(smoke: bool) -> list[dict]:
    """One row per kind of network, with what went and how far the outputs are from the original's."""
    import torch

    nn = torch.nn
    between = {"nothing": nn.Identity, "max pooling": lambda: nn.MaxPool2d(2), "mean pooling": lambda: nn.AvgPool2d(2), "batch norm": None, "leaky ReLU": None}  # fmt: skip
    found = []
    for name in list(between)[:1] if smoke else between:
        torch.manual_seed(0)
        norm, leaky = name == "batch norm", name == "leaky ReLU"
        layers: list = []
        for inputs, outputs in ((2, 12), (12, 12)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                *([nn.BatchNorm2d(outputs)] if norm else []),
                nn.LeakyReLU(0.125) if leaky else nn.ReLU(),
            ]
            layers += [between[name]()] if between[name] and inputs == 2 else []
        size = 4 if "pooling" in name else 8
        module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * size * size, 3)).double().eval()
        convs = [m for m in module if isinstance(m, nn.Conv2d)]
        kinds = ("copied", "unread") if leaky else ("dead", "copied", "unread")
        with torch.no_grad():
            for conv, reader in zip(convs, (convs[1], module[-1])):
                if "dead" in kinds:
                    conv.bias[:2] = -99
                conv.weight[4:6], conv.bias[4:6] = conv.weight[6:8], conv.bias[6:8]
                if isinstance(reader, nn.Conv2d):
                    reader.weight[:, 8:10] = 0
                else:
                    reader.weight[:, 8 * size * size : 10 * size * size] = 0
        network = relukit.load(module, input_shape=(2, 8, 8))
        box = relukit.Box(-np.ones(128), np.ones(128))
        small = relukit.compress(network, box, timeout=3.0)
        x = box.sample(200, 1)
        gone = sum(
            12 - m.kernel.shape[0]
            for n in small.network
            for m in getattr(n.op, "maps", ())
            if hasattr(m, "kernel") and m.groups == 1
        )
        found.append({
            "net": name, "planted": 2 * COUNT * len(kinds), "channels_gone": gone, "parameters_before": small.parameters_before, "parameters_after": small.parameters_after,
            "largest_difference": float(np.abs(small.network(x) - network(x)).max()), "error_bound": small.error_bound, "cpu_seconds": small.cpu_seconds,
        })  # fmt: skip
    return found


def large(smoke: bool) -> dict:
    """A VGG-like network of 157,952 units with copied channels around an image of noise."""
    import torch

    torch.manual_seed(0)
    nn, layers = torch.nn, []
    for a, b, pool in (
        ((3, 8, True),)
        if smoke
        else ((3, 32, False), (32, 32, True), (32, 64, False), (64, 64, True), (64, 128, False), (128, 128, True))
    ):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
    module = nn.Sequential(
        *layers,
        nn.Flatten(),
        *((nn.Linear(512, 10),) if smoke else (nn.Linear(2048, 256), nn.ReLU(), nn.Linear(256, 10))),
    ).eval()
    with torch.no_grad():
        for m in module:
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight)
                m.weight[:2], m.bias[:2] = 2 * m.weight[2:4], 2 * m.bias[2:4]
    side = 16 if smoke else 32
    network = relukit.load(module, input_shape=(3, side, side))
    x = np.random.default_rng(0).random(3 * side * side)
    found = relukit.compress(network, relukit.Box(x - 1 / 255, x + 1 / 255))
    keys = (
        "parameters_before",
        "parameters_after",
        "units",
        "stable_units",
        "merged",
        "open_units",
        "error_bound",
        "cpu_seconds",
    )
    return {k: getattr(found, k) for k in keys}
