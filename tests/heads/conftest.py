"""Importing hordet before the test files import mmdet offers the operators of mmcv."""

import hordet  # noqa: F401
