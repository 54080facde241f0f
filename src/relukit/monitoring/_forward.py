"""Looks at a forward pass of a watched training: inputs, layers' outputs, the model's output and what it was compared with."""

import math
from typing import Any

import numpy as np

from relukit.monitoring._record import Activity
from relukit.monitoring._target import recovered

_STEPS = {1, 2, 8, 16, 32}  # whose forward pass is looked at
_LAYERS = {1, 2, 16}  # at which every layer's output is looked at as well, and later every fourth time
_ROWS = 64
_SEEN = 16_384  # entries of a layer's output that are looked at


class ForwardLooks:
    """Hooks that are there for the steps that are looked at only.

    Arguments:
        watch: Whose model is looked at and whose record is written.
    """

    def __init__(self, watch: Any) -> None:
        self.watch = watch
        self.next = 1  # the next step whose forward pass is looked at
        self._count = 0
        self._hooks: list[Any] = []
        self._seen: dict[str, Any] | None = None

    @property
    def looking(self) -> bool:
        return self._seen is not None

    def begin(self, step: int, every: int) -> None:
        """Hooks for that step, the coming one, only; and when the next forward pass is looked at."""
        if self._seen is not None:
            return
        watch = self.watch
        local = step - watch._offset
        later = [s for s in _STEPS if s > local]
        self.next = step + (min(later) - local if later else max(64, local, 8 * every))
        seen: dict[str, Any] = {"layers": {}, "order": {}}
        self._seen = seen
        self._count += 1

        def on_input(_: Any, inputs: Any) -> None:
            first = next((v for v in inputs if hasattr(v, "is_floating_point") and v.is_floating_point()), None)
            if first is not None:
                seen["input"] = first.detach()

        def on_output(_: Any, __: Any, output: Any) -> None:
            if hasattr(output, "detach"):
                seen["output"] = output.detach()[:_ROWS]
                if output.requires_grad:
                    output.register_hook(lambda g: seen.__setitem__("gradient", (output.detach(), g.detach())))

        def on_layer(k: int) -> Any:
            def hook(_: Any, __: Any, output: Any) -> None:
                seen["order"].setdefault(k, len(seen["order"]))
                if not hasattr(output, "detach"):
                    return
                # A copy of a few rows: an in-place activation would write over a view.
                rows = max(1, min(_ROWS, _SEEN // max(output[0].numel(), 1)))
                seen["layers"][k] = output.detach()[:rows].clone()

            return hook

        # Without kwargs hooks: a compiled model runs its root's hooks outside of the compiled code.
        model = watch.model
        self._hooks = [model.register_forward_pre_hook(on_input), model.register_forward_hook(on_output)]
        deep = local in _LAYERS or (local > max(_STEPS) and self._count % 4 == 0)
        if watch._inner is model and deep:
            self._hooks += [layer.module.register_forward_hook(on_layer(k)) for k, layer in enumerate(watch.layers)]

    def finish(self, step: int, loss: Any) -> None:
        """What the hooks saw goes into the record, and they are gone."""
        seen = self._seen
        self.drop()
        if seen is None or not ("input" in seen or "output" in seen):
            return
        import torch

        watch = self.watch
        if step - watch._offset == 1:
            self._sort_layers(seen)
        with torch.no_grad():
            if "input" in seen:
                x = seen["input"][:256].float()
                x = x.reshape(len(x), -1)[:, :2048]
                mean, std = x.mean(0).cpu().numpy(), x.std(0, unbiased=False).cpu().numpy()
            else:  # whole numbers, such as tokens: nothing to standardize
                mean, std = np.zeros(1), np.ones(1)
            rms, saturated, always, bad = {}, {}, {}, ""
            for k, value in seen["layers"].items():
                v = value.float().cpu().numpy()  # a dozen small tensors' calls a layer would cost more than their numbers
                rms[k] = math.sqrt(np.dot(v.ravel(), v.ravel()) / v.size)
                if not math.isfinite(rms[k]) and not bad:
                    bad = watch.layers[k].name
                kind = watch.layers[k].activation
                if kind in ("Sigmoid", "Tanh"):
                    saturated[k] = float(np.mean(np.abs(v) > (4 if kind == "Sigmoid" else 2)))
                if v.ndim >= 2 and len(v) > 1:
                    axis = 1 if v.ndim == 4 else v.ndim - 1
                    always[k] = v.min(axis=tuple(a for a in range(v.ndim) if a != axis)) > 0
            out = seen.get("output")
            rows = np.zeros((0, 1)) if out is None else out.float().reshape(len(out), -1)[:, :64].cpu().numpy()
        finite = bool(np.all(np.isfinite(mean)))
        target = recovered(watch.record.chain, seen.get("gradient"), float(loss))
        overshoot = _correlation(seen.get("gradient"))
        watch.record.activity.append(
            Activity(step, mean, std, finite, rms, saturated, rows, bad, target, always, overshoot)
        )

    def _sort_layers(self, seen: dict[str, Any]) -> None:
        """Layers in the order they ran in: a module may list its output layer first."""
        watch = self.watch
        order, count = seen["order"], len(watch.layers)
        ranked = sorted(range(count), key=lambda k: order.get(k, count))
        if len(order) < count or ranked == list(range(count)):
            return
        watch.layers[:] = [watch.layers[k] for k in ranked]
        watch.record.start = {name: values[ranked] for name, values in watch.record.start.items()}
        seen["layers"] = {ranked.index(k): v for k, v in seen["layers"].items()}

    def drop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._seen = [], None


def _correlation(seen: Any) -> float:
    """Of the outputs with their gradients, over the batch; nan where one of them does not vary."""
    if seen is None:
        return math.nan
    out, grad = (t.detach().float().reshape(-1)[:4096] for t in seen)
    out, grad = out - out.mean(), grad - grad.mean()
    size = float(out.norm() * grad.norm())
    return float(out @ grad) / size if math.isfinite(size) and size > 0 else math.nan
