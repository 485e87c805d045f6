"""The libraries that replace replies of `requests`, and the alternatives of docs/testing.md."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import requests
import requests_mock
import responses
from pytest_httpserver import HTTPServer

from ..conftest import ROOT, STORE, Api, Config, app_of


def responses_library(url: str) -> AbstractContextManager[Any]:
    mock = responses.RequestsMock(assert_all_requests_are_fired=False)
    mock.get(url, json={"id": 7, "email": "mocked@example.com"})
    return mock


def requests_mock_library(url: str) -> AbstractContextManager[Any]:
    mock = requests_mock.Mocker()
    mock.get(url, json={"id": 7, "email": "mocked@example.com"})
    return mock


LIBRARIES = {"responses": responses_library, "requests-mock": requests_mock_library}


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_no_library_intercepts(
    ecwid: HTTPServer, config: Config, library: Callable[[str], AbstractContextManager[Any]]
) -> None:
    """A library that replaces replies of `requests` does not replace Ecwid's.

    The call goes to the host of ECWID_API_URL, so docs/testing.md names other ways.
    """
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7, "email": "sent"})
    url = ecwid.url_for(f"{STORE}/customers/7")
    api = Api(app_of(config).test_client())
    with library(url):
        assert requests.get(url, timeout=20).json()["email"] == "mocked@example.com"
        found = api.get("/customer/7").get_json()["data"]["attributes"]
    assert found["email"] == "sent"
    assert [request.path for request, _ in ecwid.log] == [f"{STORE}/customers/7"]


def test_the_page_warns() -> None:
    """The page on testing names the libraries, the real call and the alternatives."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    [section] = [each for each in page.split("\n## ") if each.startswith("Replies of your own")]
    for name in ("`responses`", "`requests-mock`", "app.ecwid.com", "ECWID_API_URL", "transport"):
        assert name in section
