"""Looks at a forward pass of a watched training: inputs, layers' outputs, the model's output and what it was compared with."""

import math
from typing import Any

import numpy as np

from relukit.monitoring._record import Activity
from relukit.monitoring._target import recovered

_STEPS = {1, 2, 8, 16, 32}  # whose forward pass is looked at
_LAYERS = {1, 2, 16}  # at which every layer's output is looked at as well, and later every fourth time
_ROWS = 64
_KEPT = {2, 8, 16}  # steps at which a weight's gradient is asked whether it still holds older ones
_LEAF = 1 << 16  # entries of that weight, at most
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
        self._leaf: Any = None  # a weight whose gradient is asked what it still holds
        self._before: Any = None  # its gradient at the first step

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

        def on_gradient(g: Any) -> None:
            """This backward pass's own part, before it is added to what the weight holds; several passes add up."""
            seen["own"] = g.detach().clone() if "own" not in seen else seen["own"] + g.detach()

        # Without kwargs hooks: a compiled model runs its root's hooks outside of the compiled code.
        model = watch.model
        self._hooks = [model.register_forward_pre_hook(on_input), model.register_forward_hook(on_output)]
        deep = local in _LAYERS or (local > max(_STEPS) and self._count % 4 == 0)
        if watch._inner is model and local in _KEPT and self._leaf is not None:
            self._hooks.append(self._leaf.register_hook(on_gradient))
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
            self._begin_loop(seen)
        elif "own" in seen and self._leaf.grad is not None:
            watch.record.kept.append(self._still_holds(seen["own"]))
        with torch.no_grad():
            if "input" in seen:
                x = seen["input"][:256].float()
                # torch's deviation down the columns takes milliseconds.
                values = x.reshape(len(x), -1)[:, :2048].cpu().numpy()
                with np.errstate(invalid="ignore", over="ignore"):
                    mean = values.mean(axis=0)
                    std = np.sqrt(np.square(values - mean).mean(axis=0))
            else:  # whole numbers, such as tokens: nothing to standardize
                mean, std = np.zeros(1), np.ones(1)
            rms, saturated, always, bad = {}, {}, {}, ""
            for k, value in seen["layers"].items():
                # a dozen small tensors' calls a layer would cost more than their numbers.
                v = value.float().cpu().numpy()
                with np.errstate(over="ignore"):  # what overflows is told as infinite
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
        target = recovered(watch.record.chain, seen.get("gradient"), float(loss), watch.record.factor)
        overshoot = _correlation(seen.get("gradient"))
        watch.record.activity.append(
            Activity(step, mean, std, finite, rms, saturated, rows, bad, target, always, overshoot, "input" not in seen)
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

    def _begin_loop(self, seen: dict[str, Any]) -> None:
        """Which layers ran, which of them the optimizer does not hold, and the gradient that the next step's is compared with."""
        watch, record, order = self.watch, self.watch.record, seen["order"]
        count = len(watch.layers)
        record.ran = list(range(count)) if len(order) == count else sorted(order)
        groups = getattr(watch.optimizer, "param_groups", ())
        held = {id(p) for group in groups for p in group["params"]}
        trained = [k for k, layer in enumerate(watch.layers) if layer.parameter.requires_grad]
        record.outside = [k for k in trained if id(watch.layers[k].parameter) not in held] if held else []
        known = [watch.layers[k].parameter for k in trained if watch.layers[k].parameter.grad is not None]
        small = [p for p in known if 8 <= p.numel() <= _LEAF and not p.grad.is_sparse]
        self._leaf = small[-1] if small else None
        self._before = small[-1].grad.detach().clone() if small else None
        record.kept = []

    def _still_holds(self, own: Any) -> bool:
        """Whether a gradient holds more than this step's: all of the last one's, though that step was taken.

        Gradients that are gathered over several batches for one step are no such thing, nor are scaled or clipped ones.
        """
        rest = self._leaf.grad.detach() - own
        before, self._before = self._before, None
        if before is not None:
            moved = self.watch.record.updates and float(np.nan_to_num(self.watch.record.updates[-1][1]).max()) > 0
            return (
                bool(moved)
                and float(before.norm()) > 0
                and float((rest - before).norm()) <= 1e-3 * float(before.norm())
            )
        held, fresh = self._leaf.grad.detach().flatten(), own.flatten()
        parallel = abs(float(held @ fresh)) > 0.999 * float(held.norm() * fresh.norm())
        return not parallel and float(rest.norm()) > 1e-2 * float(held.norm())

    def drop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._seen = [], None


def _correlation(seen: Any) -> float:
    """Of the outputs with their gradients, over the batch; nan where one of them does not vary.

    Where gradients are signs alone, as an absolute error's: the outputs' sizes on the side that they are pushed back from, less those on
    the other, over all.
    """
    if seen is None:
        return math.nan
    out, grad = (t.detach().float().reshape(-1)[:4096] for t in seen)
    size = grad.abs()
    if float(size.max() - size.min()) <= 1e-3 * float(size.max()):
        total = float(out.abs().sum() * size.max())
        return float(out @ grad) / total if math.isfinite(total) and total > 0 else math.nan
    out, grad = out - out.mean(), grad - grad.mean()
    size = float(out.norm() * grad.norm())
    return float(out @ grad) / size if math.isfinite(size) and size > 0 else math.nan
