"""Start the app: open the models, take the port, answer until it is interrupted."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from attnreg.errors import AttnregError


def serve(
    models: Sequence[str],
    out: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str = "auto",
    dtype: str = "auto",
    say: Callable[[str], None] = print,
) -> None:
    """Answer browsers until the process is interrupted.

    Args:
        models: those that are offered, as `load_pipeline` takes them; all are opened now.
        out: the folder of the history. Nothing is written elsewhere.
        host: the address that is listened on. The default is reached from this machine alone.
        port: of it; 0 takes one that is free.
        device: where is drawn.
        dtype: in what.
        say: told in one line each what is going on.

    Raises:
        AttnregError: a model does not open, the folder cannot be written, the port is taken, or the extra is missing.
    """
    _check_packages()
    with _listening(host, port) as listening:
        import uvicorn  # no earlier than it is known that there is a port: this, and torch, take seconds

        from attnreg.app.door import is_loopback
        from attnreg.app.history import History
        from attnreg.app.offered import offer
        from attnreg.app.server import App
        from attnreg.models.quiet import quiet_libraries

        quiet_libraries()
        history = History(out)
        say(f"opening {', '.join(models)}")
        app = App(offer(models, device, dtype), history)
        shown = f"[{host}]" if ":" in host else host
        say(f"pictures go to {out}")
        if not is_loopback(host):
            say("whoever reaches this address can draw and see the history: there is no password")
        say(f"open http://{shown}:{listening.getsockname()[1]} in a browser; Ctrl-C ends it")
        config = uvicorn.Config(
            app.asgi(host), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
            ws="none", lifespan="on", timeout_graceful_shutdown=5, timeout_keep_alive=30, limit_concurrency=256,
        )  # fmt: skip
        with suppress(KeyboardInterrupt):  # which uvicorn raises again when all is put away
            uvicorn.Server(config).run(sockets=[listening])
        say("ended")


def _check_packages() -> None:
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise AttnregError(
            f"expected the packages of the app, got no {missing[0]}; install them: pip install 'attnreg[app]'"
        )


def _listening(host: str, port: int) -> socket.socket:
    """The port, taken before a model is opened: that may last a minute."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise AttnregError(
            f"expected a free address to listen on, got {host}:{port} ({reason}); choose another with --port"
        ) from error
    return listening
