"""The translations are complete: every language has every English text, translated, with its terms intact."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "ru", "zh")
FILES = ("main.json", "nodeDefs.json", "settings.json")
# What is the same in another language: proper names, and words that it shares with English.
UNTRANSLATED = {
    *(
        "spatialfusion",
        "clip",
        "vae",
        "cfg",
        "clip_vision",
        "checkpoint",
        "prompt",
        "latent",
        "image",
        "format",
        "normals",
    ),
    *("Prompt", "Checkpoint", "Latent", "Mesh", "Conditioning", "SpatialFusion", "Scheduler", "Seed", "CLIP", "Turbo"),
    *("Viridis", "min", "max"),
}
# Texts of these languages hold at least one letter of their own script.
SCRIPTS = {
    "ja": r"[\u3040-\u30ff\u4e00-\u9fff]",
    "ko": r"[\uac00-\ud7af]",
    "ru": r"[\u0400-\u04ff]",
    "zh": r"[\u4e00-\u9fff]",
}
# A message in the front end's i18n library has these for its own.
MESSAGE_SYNTAX = set("{}@|")

Key = tuple[str, ...]


def texts(repository: Path, language: str, file: str) -> dict[Key, str]:
    """The texts of a file by their path in it."""
    content = (repository / "locales" / language / file).read_bytes().decode("utf-8", errors="strict")
    return flat(json.loads(content))


def flat(value: Any, path: Key = ()) -> dict[Key, str]:
    if isinstance(value, str):
        return {path: value}
    return {found: text for key, part in value.items() for found, text in flat(part, (*path, key)).items()}


def terms(text: str) -> set[str]:
    """What stands in every language: placeholders, numbers, files' names and endings, names in capitals."""
    numbers = re.findall(r"(?<!\w)\d+(?:[.,]\d+)?(?!\w)", text, re.ASCII)
    names = re.findall(r"%\w+%|\.[a-z]{3,}\b|models/\w+|\b[A-Z][A-Z0-9_]{2,}\b|'<name> \[output\]'", text, re.ASCII)
    return {number.replace(",", ".") for number in numbers} | set(names)


def test_the_languages_are_those(repository: Path) -> None:
    assert sorted(folder.name for folder in (repository / "locales").iterdir()) == sorted(LANGUAGES)
    for language in LANGUAGES:
        assert sorted(file.name for file in (repository / "locales" / language).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_there_and_translated(repository: Path, language: str, file: str) -> None:
    english = texts(repository, "en", file)
    translated = texts(repository, language, file)
    assert list(translated) == list(english)
    assert [path for path, text in translated.items() if not text.strip() or MESSAGE_SYNTAX & set(text)] == []
    if language == "en":
        return
    same = [path for path, text in translated.items() if text == english[path]]
    assert [path for path in same if english[path] not in UNTRANSLATED] == []
    lost = {path: terms(english[path]) - terms(text) for path, text in translated.items()}
    assert {path: missing for path, missing in lost.items() if missing} == {}
    script = SCRIPTS.get(language, "")
    sentences = [path for path, text in english.items() if " " in text]
    assert [path for path in sentences if not re.search(script, translated[path])] == []


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_texts_name_nodes_and_inputs_as_they_are_shown(repository: Path, language: str) -> None:
    english = texts(repository, "en", "nodeDefs.json")
    translated = texts(repository, language, "nodeDefs.json")
    nodes = {english[path]: translated[path] for path in english if path[-1] == "display_name"}
    assert len(set(nodes.values())) == len(nodes)
    missed = []
    for path, text in english.items():
        if path[-1] not in ("description", "tooltip"):
            continue
        inputs = {
            name: translated[(path[0], "inputs", name, "name")]
            for name in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text)
            if (path[0], "inputs", name, "name") in english
        }
        shown = {own: there for own, there in nodes.items() if own in text} | inputs
        missed += [(path, there) for there in shown.values() if there not in translated[path]]
    assert missed == []


# The tables of texts in web/js, their sections in main.json, and the keys that no text("key") names.
TABLES = {
    "texts.js": ("spatialfusionViewer", {"min", "median", "max", "sky"}),
    "editor/texts.js": (
        "spatialfusionEditor",
        {"right", "up", "ahead", "width", "length", "keyMove", "keyLift", "keyTurn", "keyGrow", "keyNext", "keyAdd"}
        | {"keyDuplicate", "keyRemove", "keySetDown", "keyUndo", "keyFit", "keyFree", "newerInput", "overInput"},
    ),
}


@pytest.mark.parametrize("file", TABLES)
def test_the_english_texts_of_the_sources_are_those_of_the_locale(repository: Path, file: str) -> None:
    section, named_elsewhere = TABLES[file]
    source = (repository / "web" / "js" / file).read_text(encoding="utf-8")
    (table,) = re.findall(r"const ENGLISH = \{\n(.*?)\n\};", source, re.DOTALL)
    english = dict(re.findall(r'^  (\w+):\s+"(.*?)",$', table, re.MULTILINE))
    locale = json.loads((repository / "locales" / "en" / "main.json").read_text(encoding="utf-8"))
    assert english == locale[section]
    paths, is_editor = (repository / "web").glob("**/*.js"), file.startswith("editor")
    users = "".join(path.read_text(encoding="utf-8") for path in paths if (path.parent.name == "editor") == is_editor)
    shown = set(re.findall(r'\btext\("(\w+)"\)', users)) | named_elsewhere
    assert shown == set(english)
    assert all(f'"{key}"' in users or f"{key}:" in users for key in named_elsewhere)


def test_nothing_else_is_shown(repository: Path) -> None:
    (setting,) = json.loads((repository / "locales" / "en" / "settings.json").read_text(encoding="utf-8")).values()
    extension = (repository / "web" / "spatialfusion.js").read_text(encoding="utf-8")
    assert re.findall(r'^\s+(name|tooltip): "(.*)",$', extension, re.MULTILINE)[1:] == list(setting.items())
    used = "".join(path.read_text(encoding="utf-8") for path in (repository / "web").glob("**/*.js"))
    # What is shown begins with a text of the table; a status line of HTTP is what follows it.
    assert set(re.findall(r"new Error\((.*)\);", used)) <= {
        'text("gone")',
        'text("unreadable")',
        "`${response.status} ${response.statusText}`",
    }
    assert re.findall(r"(?:summary|detail|textContent)(?::| =) [\"'`](?!\"|\$\{|x )", used) == []
