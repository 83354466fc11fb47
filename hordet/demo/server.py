"""The page on this machine's network: nothing is fetched, nothing is told, nothing stays."""

import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hordet.demo.answers import Answers, Limits
from hordet.errors import DemoError
from hordet.inference import Predictor

SESSIONS = 16  # browser tabs whose image is kept


def serve(
    models: Mapping[str, Predictor],
    host: str,
    port: int,
    limits: Limits,
    announce: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C or SIGTERM; uploads and results are then removed.

    Args:
        models: The models under the names that the page shows.
        host: Address to listen on; 127.0.0.1 is this machine alone.
        port: Port to listen on.
        limits: What is taken.
        announce: Takes the page's address when it is served.

    Raises:
        DemoError: Gradio is not installed; the port is taken or not allowed.
    """
    with tempfile.TemporaryDirectory(prefix="hordet-demo-") as folder:
        # Gradio reads these when it is imported.
        os.environ.update(
            GRADIO_TEMP_DIR=str(Path(folder) / "gradio"),
            GRADIO_ANALYTICS_ENABLED="False",
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_OFFLINE="1",
        )
        try:
            from hordet.demo.page import CSS, THEME, build_page
        except ImportError as error:
            raise DemoError(
                f"the page needs Gradio ({error}): pip install -e '.[demo]' in the folder of hordet"
            ) from error
        page = build_page(Answers(models, folder, limits))
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                theme=THEME,
                css=CSS,
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
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing stays
        announce(address)
        page.block_thread()
