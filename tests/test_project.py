"""The files around the code: they are valid, and agree with each other and with the package."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tinygrad_lstm as tg

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
YAML = [ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml", *FORMS, *(GITHUB / "workflows").glob("*.yml")]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *GITHUB.rglob("*.md"), *YAML]
MAKE = re.compile(r"(?:[`$&] ?|run: |entry: )make ([a-z][a-z-]*)")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
IDENTIFIER = re.compile(r"\btg((?:\.\w+)+)")


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def workflow() -> Any:
    return loaded(GITHUB / "workflows" / "ci.yml")


@pytest.mark.parametrize("path", YAML, ids=name_of)
def test_yaml_is_valid(path: Path) -> None:
    assert isinstance(loaded(path), dict)


def test_there_is_one_version() -> None:
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT  # it is read from _version.py
    assert re.fullmatch(r"\d+\.\d+\.\d+", tg.__version__)
    citation = loaded(ROOT / "CITATION.cff")
    assert citation["version"] == tg.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["abstract"].rstrip(".") == PROJECT["description"]


def test_python_versions_agree() -> None:
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={classified[0]}"
    tested = [job["strategy"]["matrix"] for job in workflow()["jobs"].values() if "strategy" in job]
    assert tested and all(matrix["python"] == classified for matrix in tested)


def test_systems_and_kernels_of_ci() -> None:
    jobs = workflow()["jobs"]
    systems = {jobs["linux"]["runs-on"], *jobs["elsewhere"]["strategy"]["matrix"]["system"]}
    assert systems == {"ubuntu-latest", "macos-latest", "windows-latest"}
    for name in ("linux", "elsewhere"):
        assert jobs[name]["strategy"]["matrix"]["kernels"] == ["compiled", "plain"]
        assert "'plain' && 'none' || ''" in jobs[name]["env"]["CC"]


def test_ci_may_only_read_and_uses_fixed_versions() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    for job in workflow()["jobs"].values():
        assert "permissions" not in job and job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/none@v0")), step


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_make_targets_that_documents_name_exist(path: Path) -> None:
    named = set(MAKE.findall(path.read_text(encoding="utf-8")))
    assert named <= TARGETS, f"{name_of(path)} names {sorted(named - TARGETS)}"


def test_make_targets_are_found() -> None:
    assert MAKE.findall("`make test` or\n$ make train\n  - run: make docs PYTHON=python\na && make dist") == [
        *("test", "train", "docs", "dist")
    ]
    assert {"help", "train", "test", "coverage", "record", "dist"} <= TARGETS


def test_every_target_is_phony_and_in_the_list() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony and set(phony[1].split()) == TARGETS
    assert set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)) == TARGETS


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=name_of)
def test_issue_forms(path: Path) -> None:
    form = loaded(path)
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids)) > 0
    for field in fields:
        assert field["type"] in {"textarea", "dropdown"} and field["attributes"]["label"]
        # YAML takes a bare Yes for a boolean, which a form refuses.
        assert all(isinstance(option, str) for option in field["attributes"].get("options", ()))
    for found in IDENTIFIER.findall(path.read_text(encoding="utf-8")):
        value = tg
        for name in found.removeprefix(".").split("."):
            value = getattr(value, name)


def test_hooks_need_no_network() -> None:
    for repository in loaded(ROOT / ".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        assert all(hook["language"] == "system" for hook in repository["hooks"])
