"""Watching models that something else wraps: DistributedDataParallel, mixed precision."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn

import relukit


def dead_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(inplace=True), nn.Linear(32, 2))
    with torch.no_grad():
        model[0].bias.fill_(-20.0)
    return model


def train(model, optimizer, h, steps, cast=False):
    g = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(32, 8, generator=g)
        y = (x[:, 0] > 0).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            out = model(x)
        loss = nn.functional.cross_entropy(out.float(), y)
        optimizer.zero_grad()
        loss.backward()
        h.step(loss)
        optimizer.step()
    return float(loss.detach())


def named_and_cured(model, cast=False):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with relukit.watch(model, optimizer=optimizer) as h:
        train(model, optimizer, h, 60, cast)
        assert (h.findings[0].symptom, h.findings[0].cause) == ("dying_relu", "negative_bias")
        h.fix()
        assert train(model, optimizer, h, 300, cast) < 0.3
        assert not [f for f in h.findings if f.severity == "error"]


@pytest.mark.filterwarnings("ignore")
def test_distributed_data_parallel(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    assert "RANK" not in os.environ
    dist.init_process_group("gloo", rank=0, world_size=1)
    try:
        named_and_cured(nn.parallel.DistributedDataParallel(dead_model()))
    finally:
        dist.destroy_process_group()


def test_mixed_precision():
    named_and_cured(dead_model(), cast=True)
