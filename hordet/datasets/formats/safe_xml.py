"""Reads XML of annotation tools; refuses document types, whose entities can fill the memory."""

import xml.etree.ElementTree as tree
from pathlib import Path
from xml.parsers import expat

from hordet.errors import DatasetError


def read_xml(path: Path) -> tree.Element:
    """Read an XML file.

    Args:
        path: The file.

    Returns:
        Its outermost element.

    Raises:
        DatasetError: It cannot be read, is cut off, or declares a document type. The message begins
            with a verb: its subject is the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}") from error
    if not content.strip():
        raise DatasetError("is empty")
    builder = tree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"is not complete XML ({error})") from error
    return builder.close()


def _refuse(*_: object) -> None:
    raise DatasetError(
        "declares a document type (DOCTYPE), which annotation files do not need and whose entities "
        "can fill the memory; it is not read"
    )


def get_text(element: tree.Element, path: str) -> str:
    """Return the text of an element below another, without blanks at its ends; '' if none."""
    return (element.findtext(path) or "").strip()
