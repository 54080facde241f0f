"""The page `relukit explore` while a network trains: frames a second in headless Chromium, and CPU time of each side.

`python -m benchmarks explore [--smoke]`. Each frame takes one training step, computes all exact pieces, sends them and
draws them. Frames a second are counted in the page over its own clock; CPU seconds come from the processes, since a
shared machine makes wall time a poor witness. Needs the `dev` extra (playwright) and a `chromium` on PATH.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks._common import keep

CASES = {
    "2-32-32": {"widths": [32, 32]},
    "2-32-32-32": {"widths": [32, 32, 32]},
    "2-64-64": {"widths": [64, 64]},
}


def server_side(settings: dict[str, Any], frames: int) -> dict[str, float]:
    """CPU milliseconds a frame in Python: everything, and of that the pieces alone and the packing alone."""
    from relukit.explorer._answers import Engine
    from relukit.explorer._server import pack
    from relukit.explorer._trainer import BOX
    from relukit.geometry import regions

    engine = Engine()
    asked = lambda step: {"settings": settings, "step": step, "tab": "a"}
    engine.frame(asked(0))  # compiles
    clock, spent = time.process_time, {"all": 0.0, "geometry": 0.0, "encoding": 0.0}
    count = size = 0
    for step in range(1, frames + 1):
        start = clock()
        reply = engine.frame(asked(step))
        middle = clock()
        size = len(pack(reply))
        end = clock()
        regions(engine._run(asked(step)).network(), BOX)
        spent["all"] += end - start
        spent["encoding"] += end - middle
        spent["geometry"] += clock() - end
        count = reply[0]["count"]
    each = {f"server {name} ms": round(1000 * s / frames, 2) for name, s in spent.items()}
    return {"pieces": count, "bytes": size, **each}


def page_side(settings: dict[str, Any], seconds: float, chromium: str) -> dict[str, float]:
    """Frames a second over `seconds` of play, and CPU milliseconds a frame of the browser and of the server."""
    from playwright.sync_api import sync_playwright

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "relukit", "explore", "--no-browser", "--json"]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert served.stdout is not None
        url = json.loads(_json_text(served.stdout))["url"]
        state = base64.urlsafe_b64encode(json.dumps({"settings": settings}).encode()).decode().rstrip("=")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1300, "height": 850})
            page.goto(f"{url}&s={state}")
            _until(lambda: page.evaluate("window.relukit?.ready"))
            look = lambda: page.evaluate("[relukit.frames, performance.now(), relukit.spent, relukit.frame.count]")
            page.click("#play")
            start = look()[0]
            _until(lambda: look()[0] >= start + 5)  # past the first frames, which warm up
            cpu, (frames, now, spent, _) = _cpu(os.getpid(), served.pid), look()
            time.sleep(seconds)
            after, (last, later, spent_after, count) = _cpu(os.getpid(), served.pid), look()
            done = last - frames
            browser.close()
    finally:
        served.kill()
        served.wait()
    return {
        "frames a second": round(1000 * done / (later - now), 1),
        "frames": done,
        "pieces at the end": count,
        "browser CPU ms": round(1000 * (after[0] - cpu[0]) / done, 2),
        "server CPU ms": round(1000 * (after[1] - cpu[1]) / done, 2),
        "page's script ms": round((spent_after - spent) / done, 2),
        "load of the machine": round(os.getloadavg()[0], 1),
    }


def _json_text(stream: Any) -> str:
    """The first JSON object of a stream that stays open."""
    text = ""
    for line in stream:
        text += line
        if line.startswith("}") or line.rstrip().endswith("}"):
            break
    return text


def _until(true: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("the page did not get there")
        time.sleep(0.05)


def _cpu(parent: int, server: int) -> tuple[float, float]:
    """CPU seconds so far of all chromium processes below `parent`, and of the server."""
    stats: dict[int, tuple[int, str, float]] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (folder / "stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
        except OSError:  # it has ended meanwhile
            continue
        fields = rest.split()
        stats[int(folder.name)] = (int(fields[1]), name, (int(fields[11]) + int(fields[12])) / tick)

    def below(pid: int) -> bool:
        while pid in stats and pid != parent:
            pid = stats[pid][0]
        return pid == parent

    browsers = sum(cpu for pid, (_, name, cpu) in stats.items() if "chrom" in name and below(pid))
    return browsers, stats[server][2]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks explore", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one small case, briefly, nothing written")
    parser.add_argument("--seconds", type=float, default=15, help="play time measured per case")
    given = parser.parse_args(argv)
    cases = {"2-8-8": {"widths": [8, 8]}} if given.smoke else CASES
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    rows = {}
    for name, settings in cases.items():
        rows[name] = server_side(settings, 5 if given.smoke else 100)
        if chromium is not None:
            rows[name] |= page_side(settings, 1 if given.smoke else given.seconds, chromium)
    keep("explore", {"goal": "20 frames a second with 5,000 pieces", "cases": rows}, given.smoke)
