"""`relukit supports`: what the verifier can treat, for tools that ask before they call."""

import typer


def command(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """What `relukit verify` supports."""
    from relukit.cli._frame import print_json
    from relukit.network.onnx import OPERATORS

    smooth = {"Sigmoid", "Tanh", "Elu", "Gelu", "Softplus", "HardSwish", "Sign", "Softmax", "LogSoftmax"}
    content = {
        "vnnlib": ["1.0"],
        "operators": sorted(set(OPERATORS) - smooth),
        "conditions": ["and", "or", "linear conditions on outputs", "bounds on inputs"],
        "statuses": ["sat", "unsat", "unknown", "timed-out"],
    }
    if as_json:
        print_json(content)
    else:
        for key, values in content.items():
            print(f"{key}: {', '.join(values)}")
