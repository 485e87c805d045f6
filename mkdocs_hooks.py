"""The site is docs/, and beside it those files of the repository that its pages link to.

So that a link from a page to such a file is right in the repository and on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent
LINK = re.compile(r"(?<=\]\()(?!\w+:|/)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The linked files beside docs/ are pages and files of the site."""
    pages = list(files.documentation_pages())
    while pages:
        page = pages.pop()
        for link in LINK.findall((ROOT / _path(page)).read_text(encoding="utf-8")):
            target = _target(page, link)
            if target.startswith(("docs/", "../")) or not (ROOT / target).is_file():
                continue  # one that leads nowhere is mkdocs's to tell
            if target == "README.md":
                continue  # the site has index.md in its place: link to the page that is meant
            if not files.get_file_from_path(target):
                found = File.generated(config, target, abs_src_path=str(ROOT / target))
                files.append(found)
                if found.is_documentation_page():
                    pages.append(found)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/, or come back to it, lead to the same file on the site."""
    folder = posixpath.dirname(page.file.src_uri)

    def on_site(link: re.Match[str]) -> str:
        return posixpath.relpath(_target(page.file, link[0]).removeprefix("docs/"), folder or ".")

    return LINK.sub(on_site, markdown)


def _path(page: File) -> str:
    """Where it is in the repository."""
    assert page.abs_src_path
    return Path(page.abs_src_path).relative_to(ROOT).as_posix()


def _target(page: File, link: str) -> str:
    """The path in the repository that a link of this page leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(_path(page)), link))
