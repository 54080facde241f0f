"""`relukit explore` and `relukit doctor` as a user runs them."""

import json
import os
import signal
import subprocess
import sys
import urllib.request


def test_explore_serves_until_it_is_interrupted():
    started = subprocess.Popen(
        [sys.executable, "-m", "relukit", "explore", "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        url = started.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:") and "#token=" in url
        with urllib.request.urlopen(url.split("#")[0], timeout=10) as answer:
            assert answer.status == 200
    finally:
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=20)
    assert started.returncode == 130 and "Traceback" not in said


def test_another_host_is_warned_of():
    started = subprocess.Popen(
        [sys.executable, "-m", "relukit", "explore", "--no-browser", "--host", "0.0.0.0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    started.stdout.readline()
    started.send_signal(signal.SIGINT)
    assert "warning" in started.communicate(timeout=20)[1]


def test_doctor_tells_versions_and_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "relukit", "doctor", "--json"],
        capture_output=True, text=True, check=True, env=os.environ | {"RELUKIT_DATA": str(tmp_path), "OMP_NUM_THREADS": "3"},
    )  # fmt: skip
    content = json.loads(done.stdout)
    import numpy

    assert content["packages"]["numpy"] == numpy.__version__ and content["omp_num_threads"] == "3"
    assert content["data_folder"] is True and content["cores"] >= 1 and "torch" in content["gpu"]
