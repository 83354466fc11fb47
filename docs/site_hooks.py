"""Hooks of mkdocs.yml: pages from beside docs/, links out of docs/, and the reference.

README.md is the home page, and CONTRIBUTING.md, CHANGELOG.md and SECURITY.md are pages too, so no
text is kept twice. The reference has a page a room of hordet/, made from the docstrings.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Pages from beside docs/, and where the site has them.
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
# mkdocs-material would have browsers fetch this script from elsewhere.
SHIM = ("https://unpkg.com/iframe-worker/shim", "javascripts/iframe-worker.js")
# The command has no interface in Python: `hordet COMMAND --help` shows its pages.
ROOMS = sorted(
    p.parent.name for p in (ROOT / "hordet").glob("*/__init__.py") if p.parent.name != "cli"
)
MODULES = ["errors", "registry"]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the reference at the end of the navigation."""
    pages = [{f"hordet.{name}": f"reference/{name}.md"} for name in (*MODULES, *ROOMS)]
    assert config.nav is not None
    config.nav.append({"Reference": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from beside docs/ and those of the reference."""
    for name, target in BESIDE.items():
        text = _bend_links((ROOT / name).read_text())
        files.append(File.generated(config, target, content=text))
    for name in MODULES:
        files.append(_make_reference(config, name, [f"hordet.{name}"]))
    for room in ROOMS:
        paths = sorted((ROOT / "hordet" / room).rglob("*.py"))
        modules = [
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for path in paths
            if path.stem == "__init__" or not path.stem.startswith("_")
            if path.stem.isidentifier()  # else it is the config of a shipped model
        ]
        files.append(_make_reference(config, room, modules))
    return files


def _make_reference(config: MkDocsConfig, name: str, modules: list[str]) -> File:
    text = f"# hordet.{name}\n\n" + "".join(f"::: {module}\n\n" for module in sorted(modules))
    return File.generated(config, f"reference/{name}.md", content=text)


def _bend_links(text: str) -> str:
    """Let the links of a page from beside docs/ lead to the pages of the site."""
    text = text.replace("](docs/notes)", "](notes/speed.md)").replace("](docs/", "](")
    for name, target in BESIDE.items():
        text = text.replace(f"]({name}", f"]({target}")
    return text


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of docs/ to the pages beside it lead to their pages, and mend fences.

    `bash slow` and `bash fails` are words for the tests; the site colors them as bash.
    """
    for name, target in BESIDE.items():
        markdown = markdown.replace(f"](../{name}", f"]({target}")
    return re.sub(r"^```(bash) (slow|fails)$", r"```\1", markdown, flags=re.M)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let a page take its one script from elsewhere out of the site itself."""
    return output.replace(SHIM[0], "../" * page.url.count("/") + SHIM[1])


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Do the same in 404.html."""
    return output_content.replace(*SHIM)
