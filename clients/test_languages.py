"""The clients of openapi-generator read what the contract allows, and lose what the page names."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.fresh_folder import block, generate, round_trip, sh

PROGRAMS = ROOT / "clients" / "round_trip"
# Debian has each library, so no tool may ask a registry for one.
OFFLINE = {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "CARGO_NET_OFFLINE": "true"}

JARS = {
    "/usr/share/java/jackson-annotations.jar": "libjackson2-annotations-java",
    "/usr/share/java/jackson-core.jar": "libjackson2-core-java",
    "/usr/share/java/jackson-databind.jar": "libjackson2-databind-java",
    "/usr/share/java/geronimo-annotation-1.3-spec.jar": "libgeronimo-annotation-1.3-spec-java",
    "/usr/share/java/jsr305.jar": "libjsr305-java",
}
CLASSPATH = ":".join([*JARS, "classes"])
CRATES = "/usr/share/cargo/registry"
NEWTONSOFT = "/usr/lib/cli/Newtonsoft.Json-5.0/Newtonsoft.Json.dll"
ASSEMBLIES = (
    "Newtonsoft.Json.dll System.ComponentModel.DataAnnotations System.Runtime.Serialization"
)
CSHARP = "csharp/src/Org.OpenAPITools"


@dataclass(frozen=True)
class Language:
    """A language, what a client in it needs and does, and what its models lose.

    Attributes:
        needs: For each program, file or pattern of files the Debian package that has it.
        build: The commands that compile or load all models, and all of the client where possible.
        program: The command that reads documents through the models.
        losses: The kinds of `samples.losses`. The page says the same.
    """

    needs: dict[str, str]
    build: list[str]
    program: str
    losses: set[str]


LANGUAGES = {
    "Go": Language(
        needs={"go": "golang-go"},
        build=[
            f"mkdir go/round_trip && cp {PROGRAMS}/main.go go/round_trip",
            "cd go && go vet . ./round_trip && go build -o .. ./round_trip",
        ],
        program="./round_trip",
        losses={"null absent"},
    ),
    "Java": Language(
        needs={"javac": "default-jdk-headless", **JARS},
        build=[
            f"javac -d classes -cp {CLASSPATH} {PROGRAMS}/RoundTrip.java"
            " java/src/main/java/org/openapitools/client/model/*.java"
        ],
        program=f"java -cp {CLASSPATH} RoundTrip",
        losses={"null absent"},
    ),
    "Ruby": Language(
        needs={"ruby": "ruby", "/usr/share/rubygems-integration/*/*/typhoeus-*": "ruby-typhoeus"},
        build=[f"cp {PROGRAMS}/round_trip.rb ."],
        program="ruby -I ruby/lib round_trip.rb",
        losses={"null absent", "unknown member absent"},
    ),
    "PHP": Language(
        needs={
            "php": "php-cli",
            "/usr/share/php/GuzzleHttp/autoload.php": "php-guzzlehttp-guzzle",
        },
        build=[f"cp {PROGRAMS}/round_trip.php ."],
        program="php round_trip.php",
        losses={"null absent", "null", "empty object", "unknown member absent"},
    ),
    "C#": Language(
        needs={
            "mcs": "mono-mcs",
            "mono": "mono-runtime",
            "/usr/lib/mono/4.5/System.ComponentModel.DataAnnotations.dll": "libmono-cil-dev",
            NEWTONSOFT: "libnewtonsoft-json5.0-cil",
        },
        build=[
            f"cp {NEWTONSOFT} .",
            # Only schemas with a union use the class, and the class needs a newer Newtonsoft.Json.
            f"rm {CSHARP}/Model/AbstractOpenAPISchema.cs",
            "mcs -langversion:latest -nowarn:0472 -out:round_trip.exe"
            f" {' '.join(f'-r:{each}' for each in ASSEMBLIES.split())}"
            f" -recurse:'{CSHARP}/Model/*.cs' {CSHARP}/Client/OpenAPIDateConverter.cs"
            f" {PROGRAMS}/RoundTrip.cs",
        ],
        program="mono round_trip.exe",
        losses={"null absent", "read-only member absent"},
    ),
    "Rust": Language(
        needs={
            "cargo": "cargo",
            f"{CRATES}/serde-1*": "librust-serde-dev",
            f"{CRATES}/serde_derive-1*": "librust-serde-derive-dev",
            f"{CRATES}/serde_json-1*": "librust-serde-json-dev",
            f"{CRATES}/uuid-1*": "librust-uuid-dev",
        },
        build=[
            f"cp -r {PROGRAMS}/rust round_trip && cp -r rust/src/models round_trip/src",
            "cd round_trip && cargo build --quiet",
        ],
        program="round_trip/target/debug/round_trip",
        losses={"null absent", "unknown member absent"},
    ),
}


def is_there(name: str) -> bool:
    if name.startswith("/"):
        return any(Path("/").glob(name[1:]))
    return shutil.which(name) is not None


def folder_of(name: str) -> Path:
    """Generate the client of a language in a fresh folder, and return the folder."""
    need(name, {"java": "default-jre-headless"})
    folder = ROOT / "clients" / "build" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generate(block("Go, Java, Ruby, PHP, C# and Rust", "sh"), folder)
    generate(block(name, "sh"), folder)
    return folder


def need(name: str, needs: dict[str, str]) -> None:
    """Skip a test where a language lacks a package, or fail where nothing may be skipped."""
    packages = [package for file, package in needs.items() if not is_there(file)]
    if packages:
        reason = f"{name} is left out, because Debian packages are missing: {', '.join(packages)}"
        (pytest.fail if os.environ.get("EVERY_TEST") == "1" else pytest.skip)(reason)


@pytest.mark.parametrize("name", LANGUAGES)
def test_round_trip(name: str) -> None:
    """The models of a language write what they have read, except the losses that the page names."""
    language, folder = LANGUAGES[name], folder_of(name)
    need(name, language.needs)
    for command in language.build:
        sh(command, folder, **OFFLINE)
    found = round_trip(language.program, folder)
    assert set(found) == language.losses, found
