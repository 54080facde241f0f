"""`relukit supports`: what the verifier can treat, for tools that ask before they call (VNN-LIB 2.0, chapter on solvers)."""

import typer


def command(
    opset_versions: bool = typer.Option(False, "--onnx-opset-versions", help="Lowest and highest ONNX opset"),
    element_types: bool = typer.Option(False, "--onnx-element-types", help="Element types"),
    operators: bool = typer.Option(False, "--onnx-operators", help="ONNX operators"),
    proof_operators: bool = typer.Option(
        False, "--onnx-operators-unsat-proofs", help="ONNX operators with certificates"
    ),
    versions: bool = typer.Option(False, "--vnnlib-versions", help="Lowest and highest VNN-LIB version"),
    hidden: bool = typer.Option(False, "--hidden-node-theories", help="H: hidden values may be declared"),
    several_values: bool = typer.Option(
        False, "--multiple-input-output-theories", "--multiple-inputs-output-theories", help="MIO"
    ),
    several_networks: bool = typer.Option(False, "--multiple-network-theories", help="SNET, MENET, MINET, MNET"),
    comparisons: bool = typer.Option(False, "--multiple-node-comparison-theories", help="MNC"),
    arithmetic: bool = typer.Option(False, "--arithmetic-complexity-theories", help="LIN"),
    disjunctions: bool = typer.Option(
        False, "--optimised-disjunctive-reasoning", help="Whether `or` is more than a list of cases"
    ),
    serialise: bool = typer.Option(
        False, "--serialise-assignments", help="Whether witnesses can be written as tensors"
    ),
    proofs: bool = typer.Option(False, "--unsat-proofs", help="Whether proofs in the VNN-LIB proof format are written"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """What `relukit verify` supports; without an option everything."""
    from relukit.cli._frame import print_json

    content = capabilities()
    chosen = {
        "onnx-opset-versions": opset_versions, "onnx-element-types": element_types, "onnx-operators": operators,
        "onnx-operators-unsat-proofs": proof_operators, "vnnlib-versions": versions, "hidden-node-theories": hidden,
        "multiple-input-output-theories": several_values, "multiple-network-theories": several_networks,
        "multiple-node-comparison-theories": comparisons, "arithmetic-complexity-theories": arithmetic,
        "optimised-disjunctive-reasoning": disjunctions, "serialise-assignments": serialise, "unsat-proofs": proofs,
    }  # fmt: skip
    asked = [key for key, wanted in chosen.items() if wanted]
    if as_json:
        print_json({key: content[key] for key in asked} if asked else content)
    elif asked:
        for key in asked:
            value = content[key]
            print("\n".join(value) if isinstance(value, list) else value)
    else:
        for key, value in content.items():
            print(f"{key}: {', '.join(value) if isinstance(value, list) else value}")


def capabilities() -> dict[str, list[str] | str]:
    """All capabilities by their names in the standard, and a few more."""
    from relukit.network.onnx import OPERATORS

    proven = {"Add", "Constant", "Conv", "Dropout", "Flatten", "Gemm", "Identity", "MatMul", "Relu", "Reshape", "Sub"}
    known = sorted(OPERATORS)
    return {
        "onnx-opset-versions": ["7", "21"],
        # Proofs are about real arithmetic; about a float execution where `--execution float32` can bound it.
        "onnx-element-types": ["real"],
        "onnx-operators": known,
        "onnx-operators-unsat-proofs": sorted(proven & set(known)),
        "vnnlib-versions": ["1.0", "2.0"],
        "hidden-node-theories": ["NH", "H"],
        "multiple-input-output-theories": ["SIO", "MIO"],
        "multiple-network-theories": ["SNET", "MENET", "MINET", "MNET"],
        "multiple-node-comparison-theories": ["SNC", "MNC"],
        "arithmetic-complexity-theories": ["BND", "COUT", "LIN"],
        "optimised-disjunctive-reasoning": "false",
        "serialise-assignments": "true",
        # Certificates have relukit's own format (`relukit check`), not the one that the standard is still drafting.
        "unsat-proofs": "false",
        "certificates": "true",
        "vnnlib": ["1.0", "2.0"],
        "operators": known,
        "conditions": ["and", "or", "<=", ">=", "<", ">", "==", "!=", "linear terms over inputs and outputs"],
        "statuses": ["sat", "unsat", "unknown", "timed-out"],
    }
