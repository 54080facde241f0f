"""`relukit explore [MODEL]`."""

from pathlib import Path

import typer


def command(
    model: Path | None = typer.Argument(None, help="A network to open; without one the page trains its own"),
    data: Path | None = typer.Option(None, help="Rows of the model: .npz with x, .npy or .csv"),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; anything but loopback lets others in"),
    port: int = typer.Option(0, min=0, max=65535, help="Port; 0 takes a free one"),
    browser: bool = typer.Option(True, help="Open the page in the browser"),
    as_json: bool = typer.Option(False, "--json", help="Print the address as JSON."),
) -> None:
    """A local page: watch a network train, piece by piece, and open your own."""
    import webbrowser

    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json, say_error
    from relukit.explorer._answers import Engine
    from relukit.explorer._server import Server
    from relukit.report import read_rows

    network = None if model is None else relukit.load(model)
    if data is not None and network is None:
        raise InvalidInput("--data belongs to a model: relukit explore MODEL --data FILE")
    rows = None if data is None or network is None else read_rows(network, data).x
    if host not in ("127.0.0.1", "localhost"):
        say_error(f"warning: {host} is reachable from other machines; whoever has the address below can use the page")
    try:
        server = Server(Engine(network, rows), host, port)
    except OSError as error:
        raise InvalidInput(f"cannot listen on {host}:{port}: {error.strerror}. Choose another --port.") from error
    print_json({"url": server.url}) if as_json else print(f"{server.url}\nCtrl-C stops it.", flush=True)
    if browser:
        webbrowser.open(server.url)
    try:
        server.serve()
    finally:
        server.http.server_close()
