"""Version, changelog and citation say the same thing, and what `comfy node publish` reads is there."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ARXIV_ID = "2604.26341"


def project_value(repository: Path, name: str) -> str:
    """A string setting of pyproject.toml; Python 3.10 has no TOML parser."""
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    (value,) = re.findall(rf'^{re.escape(name)} = "(.*)"$', text, re.M)
    return value


def test_citation_names_this_version_and_the_paper(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "type", "license"} <= set(citation)
    assert citation["version"] == project_value(repository, "version")
    assert citation["repository-code"] == project_value(repository, "Repository")
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["url"].endswith(ARXIV_ID)
    assert len(paper["authors"]) == 6
    assert ARXIV_ID in (repository / "README.md").read_text(encoding="utf-8")


def test_changelog_is_of_its_form_and_has_this_version(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", text, re.M)
    assert sections[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", section) for section in sections[1:])
    assert f"[{project_value(repository, 'version')}]" in text
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.M)) <= kinds


def test_registry_settings(repository: Path) -> None:
    assert project_value(repository, "PublisherId")
    assert project_value(repository, "DisplayName")
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,98}", project_value(repository, "name"))
    assert project_value(repository, "requires-comfyui") == ">=0.18.2"
    icon = project_value(repository, "Icon")
    assert (repository / icon.split("/main/")[1]).is_file()


def test_guides_name_files_that_exist(repository: Path) -> None:
    guides = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/training.md", "docs/adding_a_base.md")
    for name in (*guides, "sf_model/mini/MODEL_CARD.md"):
        text = (repository / name).read_text(encoding="utf-8")
        paths = re.findall(r"`((?:tests|nodes|sf_model|web|locales|tools|workflows|docs|configs)/[\w./-]*)`", text)
        assert [path for path in paths if not (repository / path).exists()] == [], name
        modules = re.findall(r"python -m ((?:tests|tools|sf_model)[\w.]*)", text)
        files = [repository.joinpath(*module.split(".")) for module in modules]
        assert [path for path in files if not (path.with_suffix(".py").exists() or path.is_dir())] == [], name
