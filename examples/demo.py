"""The demo: train a ReLU classifier on real handwritten digits, then open it.

    python examples/demo.py [FOLDER]

makes FOLDER/digits.onnx, FOLDER/digits.npz and FOLDER/report/index.html.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import relukit


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    fitted = relukit.fit(x, y, hidden=(64, 32), label_smoothing=0.0, noise=0.1, weight_decay=0.3, seed=0)
    accuracy = float(np.mean(fitted.network.decide(x_test) == y_test))
    print(f"trained 64-64-32-10 on {len(x)} digits: {100 * accuracy:.1f} % of {len(x_test)} held-out digits right")
    relukit.save(fitted.network, folder / "digits.onnx")
    np.savez(folder / "digits.npz", x=x_test, y=y_test)
    command = [sys.executable, "-m", "relukit", "open", "digits.onnx", "--data", "digits.npz", "--time-limit", "30"]
    print("$ relukit " + " ".join(command[3:]), flush=True)
    code = subprocess.run(command, cwd=folder, check=False).returncode
    print(f"\nOpen {(folder / 'report' / 'index.html').resolve()} in a browser.")
    return code


if __name__ == "__main__":
    sys.exit(main())
