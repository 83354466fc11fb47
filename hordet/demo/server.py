"""The page on this machine's network: nothing is fetched, nothing is told, nothing stays."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hordet.demo.answers import Answers, Limits
from hordet.errors import DemoError
from hordet.inference import Predictor


def serve(
    models: Mapping[str, Predictor],
    host: str,
    port: int,
    limits: Limits,
    announce: Callable[[str], None],
    names: Sequence[str] = (),
    examples: Sequence[Path] = (),
    origins: Mapping[str, tuple[str, str]] | None = None,
) -> None:
    """Serve the page until Ctrl-C, SIGTERM or SIGHUP; uploads and results are then removed.

    Requests that call this machine by another name than these, and those of other sites' pages,
    are answered by 403.

    Args:
        models: The models under the names that the page shows.
        host: Address to listen on; 127.0.0.1 is this machine alone.
        port: Port to listen on.
        limits: What is taken.
        announce: Takes the page's address when it is served.
        names: By which browsers may call this machine, beside `host` and localhost.
        examples: Images to choose from; the first is answered when the page opens.
        origins: Config and checkpoint of each model, for the Python lines on the page.

    Raises:
        DemoError: Gradio is not installed; the port is taken or not allowed.
    """
    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="hordet-demo-") as folder:
        uploads = Path(folder) / "gradio"
        # Gradio reads these when it is imported.
        os.environ.update(
            GRADIO_TEMP_DIR=str(uploads),
            GRADIO_ANALYTICS_ENABLED="False",
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_OFFLINE="1",
        )
        try:
            from starlette.middleware import Middleware

            from hordet.demo.gate import Gate, Storage
            from hordet.demo.page import CSS, SESSIONS, THEME, build_page
        except ImportError as error:
            raise DemoError(
                f"the page needs Gradio ({error}): pip install -e '.[demo]' in a checkout of "
                "hordet, or pip install 'gradio>=6.10'"
            ) from error
        storage = Storage(uploads, limits.total_megabytes)
        gate = Middleware(Gate, host=host, names=names, storage=storage)
        answers = Answers(models, folder, limits, origins)
        page = build_page(answers, storage, examples)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                theme=THEME,
                css=CSS,
                app_kwargs=dict(middleware=[gate]),
                max_file_size=f"{limits.megabytes}mb",
                state_session_capacity=SESSIONS,
                footer_links=[],
                share=False,
                ssr_mode=False,
                mcp_server=False,
                enable_monitoring=False,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise DemoError(
                f"cannot listen on {host}, port {port}: it is taken or not allowed. Give another "
                f"by --port, such as {port + 1}, or --host 127.0.0.1"
            ) from error
        announce(address)
        page.block_thread()
        answers.close()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do as Ctrl-C does, so that nothing stays; nohup holds."""
    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
