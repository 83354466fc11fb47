"""What keeps the page from being served."""

from hordet.errors import UserError


class DemoError(UserError):
    """Gradio is not installed, or the address cannot be had."""
