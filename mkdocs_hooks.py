"""Put the README, and the files that pages link to, on the site beside docs/.

A link of a page is then right in the repository and on the site. The README is the first page. The
page on the contract gets a table of the search parameters, whose only source is the contract. The
tables get marks with which docs/site.css fits them into a phone.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent
PARAMETERS = "<!-- the search parameters, from the contract -->"
LINK = re.compile(r"(?<=\]\()(?!\w+:|/)([^)\s#]+)")
CELL = re.compile(r"<t[dh]\b.*?</t[dh]>", re.DOTALL)
LONG_TABLE = re.compile(
    r"<table(?=>\s*<thead>\s*<tr>(?:\s*<th>[^<]*</th>){3,}\s*<th>(?:meaning|what to do)</th>)"
)
CODE = re.compile(r"(?<=<code>)(?:[^<]|<wbr>)+(?=</code>)")  # within a line, without colours
NEXT_WORD = re.compile(r"(?<=\w[_/.:=(])(?=[A-Za-z{])|(?<=[a-z])(?=[A-Z])")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README, and each file of the repository to which a page links."""
    _add(files, config, "README.md")
    pages = list(files.documentation_pages())
    while pages:
        page = pages.pop()
        for link in LINK.findall((ROOT / _path(page)).read_text(encoding="utf-8")):
            target = _target(page, link)
            if target.startswith(("docs/", "../")) or not (ROOT / target).is_file():
                continue  # mkdocs itself reports a link that leads nowhere.
            if not files.get_file_from_path(_on_site(target)):
                found = _add(files, config, target)
                if found.is_documentation_page():
                    pages.append(found)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let each link lead to the same file on the site, and fill in the search parameters."""
    folder = posixpath.dirname(page.file.src_uri)

    def on_site(link: re.Match[str]) -> str:
        return posixpath.relpath(_on_site(_target(page.file, link[0])), folder or ".")

    markdown = LINK.sub(on_site, markdown)
    return markdown.replace(PARAMETERS, _parameters()) if PARAMETERS in markdown else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a name in a table break between its words, and keep an option in one line.

    A table whose sentences come after three columns or more is marked, because a phone shows them
    below the other columns.
    """
    html = LONG_TABLE.sub("<table data-long", html)
    html = CELL.sub(lambda cell: CODE.sub(_with_breaks, cell[0]), html)
    return CODE.sub(_with_whole_options, html)


def _with_breaks(code: re.Match[str]) -> str:
    return NEXT_WORD.sub("<wbr>", code[0])


def _with_whole_options(code: re.Match[str]) -> str:
    return OPTION.sub(lambda option: f'<span class="whole">{option[0]}</span>', code[0])


def _parameters() -> str:
    """Return a table of the search parameters of `list_customers`."""
    document = yaml.safe_load((ROOT / "openapi" / "customers.yaml").read_text(encoding="utf-8"))
    rows = ["| parameter | type | meaning |", "|---|---|---|"]
    for each in document["paths"]["/customers"]["get"]["parameters"]:
        parameter = _resolved(document, each)
        if parameter["in"] == "query":
            schema = _resolved(document, parameter["schema"])
            meaning = " ".join(parameter["description"].split()).replace("|", "\\|")
            if "enum" in schema:
                meaning += f" One of {', '.join(f'`{value}`' for value in schema['enum'])}."
            rows.append(f"| `{parameter['name']}` | {schema['type']} | {meaning} |")
    return "\n".join(rows)


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the contract, or the component to which it refers."""
    while "$ref" in part:
        place = part["$ref"].removeprefix("#/").split("/")
        part = document
        for name in place:
            part = part[name]
    return part


def _add(files: Files, config: MkDocsConfig, path: str) -> File:
    """Add a file of the repository to the files of the site, and return it."""
    found = File.generated(config, _on_site(path), abs_src_path=str(ROOT / path))
    files.append(found)
    return found


def _on_site(path: str) -> str:
    """Return the path on the site of a file of the repository."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def _path(page: File) -> str:
    """Return the path of a page in the repository."""
    assert page.abs_src_path
    return Path(page.abs_src_path).relative_to(ROOT).as_posix()


def _target(page: File, link: str) -> str:
    """Return the path in the repository to which a link of this page leads."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(_path(page)), link))
