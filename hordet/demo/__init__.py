"""A page to try models on: pictures in, answers drawn, compared and saved."""

from hordet.demo.answers import Answers, Limits, Photo, Shown, model_names
from hordet.demo.errors import DemoError
from hordet.demo.server import serve

__all__ = ["Answers", "DemoError", "Limits", "Photo", "Shown", "model_names", "serve"]
