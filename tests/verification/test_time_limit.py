"""`relukit verify NETWORK PROPERTY SECONDS` as a whole process: it ends within 2 s of its limit, uses no more memory than allowed, and Ctrl-C prints bounds."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

LIMIT, SLACK = 5.0, 2.0
INSTANCES = {
    "acasxu": ("onnx/ACASXU_run2a_4_2_batch_2000.onnx", "vnnlib/prop_2.vnnlib"),
    "mnist_fc": ("onnx/mnist-net_256x6.onnx", "vnnlib/prop_7_0.05.vnnlib"),
    "oval21": ("onnx/cifar_wide_kw.onnx", "vnnlib/cifar_wide_kw-img7564-eps0.04183006535947713.vnnlib"),
    "oval21 deep": ("onnx/cifar_deep_kw.onnx", "vnnlib/cifar_deep_kw-img1052-eps0.010718954248366015.vnnlib"),
    "tllverifybench": ("onnx/tllBench_n=2_N=M=64_m=1_instance_7_0.onnx.gz", "vnnlib/property_N=64_0.vnnlib"),
    "cora": ("onnx/mnist-point.onnx", "vnnlib/mnist-img0.vnnlib"),
    "collins_rul_cnn": ("onnx/NN_rul_small_window_20.onnx", "vnnlib/robustness_2perturbations_delta20_epsilon10_w20.vnnlib"),
    "safenlp": ("onnx/medical/perturbations_0.onnx", "vnnlib/medical/hyperrectangle_635.vnnlib"),
    "linearizenn": ("onnx/AllInOne_10_10.onnx", "vnnlib/prop_10_10.vnnlib"),
    "rl_benchmarks": ("onnx/cartpole.onnx", "vnnlib/cartpole_case_unsafe_0.vnnlib"),
}  # fmt: skip


def measured(arguments):
    """Exit code, stdout, wall seconds, and CPU seconds of the process and those it started; one thread."""
    began = time.perf_counter()
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "relukit", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    assert process.stdout is not None
    with process.stdout as stream:
        out = stream.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, out, time.perf_counter() - began, used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTANCES)
def test_the_process_ends_within_two_seconds_of_its_limit(name, data_folder):
    """The limit is wall time. What start-up and the way out take is CPU time, which a busy machine stretches: the slack is stretched alike."""
    folder, (network, prop) = data_folder / "vnncomp" / name.split()[0], INSTANCES[name]
    code, out, wall, cpu = measured(["verify", folder / network, folder / prop, LIMIT])
    stretched = max(1.0, wall / max(cpu, 1e-3))
    print(f"{name}: {out.splitlines()[0]}, {wall:.1f} s of wall time, {cpu:.1f} CPU-s")
    assert code == 0 and out.split()[0] in ("sat", "unsat", "unknown", "timeout", "timed-out")
    assert wall <= LIMIT + SLACK * stretched


@pytest.mark.slow
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_ctrl_c_prints_the_bounds_so_far(data_folder, form):
    """Interrupted after a while of a proof that takes far longer."""
    folder = data_folder / "vnncomp" / "mnist_fc"
    network, prop = folder / "onnx" / "mnist-net_256x6.onnx", folder / "vnnlib" / "prop_7_0.05.vnnlib"
    command = [sys.executable, "-m", "relukit", "verify", str(network), str(prop), "300", *form]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while _cpu_seconds(process.pid) < 4.0:  # start-up is over, and the search has begun
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and (json.loads(out)["status"] if form else out.strip()) == "unknown"
    assert "case 1" in err and ("is between" in err or "no counterexample" in err)


@pytest.mark.slow
def test_ctrl_c_of_a_flip_prints_the_bounds_so_far(data_folder, tmp_path):
    """Of an image on the network whose proof is far away; the bounds enclose each other, and nothing is left behind."""
    network = data_folder / "vnncomp" / "mnist_fc" / "onnx" / "mnist-net_256x6.onnx"
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random(784).astype(np.float32))
    command = [
        sys.executable,
        "-m",
        "relukit",
        "flip",
        str(network),
        "--at",
        "x.npy",
        "--norm",
        "inf",
        "--timeout",
        "300",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while _cpu_seconds(process.pid) < 4.0:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, (out, err)
    low, high = map(float, re.search(r"between ([0-9.e-]+) and ([0-9.e-]+|inf)", out + err).groups())
    assert json.loads(out)["lower_bound"] == pytest.approx(low, rel=1e-5)
    assert 0 <= low <= high and [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def _cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
