"""A page to try models on: images in, predictions drawn, compared and saved; `server.serve`."""
