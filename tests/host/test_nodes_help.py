"""Help pages and translations: the server serves them, and they tell of every node, input and output that there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.host.server import ComfyServer
from tools.documents.help_pages import GROUPS, ORDER, PREFIX
from tools.host_process import DIRECT

PACK = "ComfyUI-SpatialFusion"
LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "ru", "zh")
# A message in the front end's i18n library has these for its own.
MESSAGE_SYNTAX = set("{}@|")


def get(server: ComfyServer, path: str) -> str:
    with DIRECT.open(server.url + path, timeout=60) as response:
        return response.read().decode("utf-8")


def our_nodes(server: ComfyServer) -> dict[str, dict[str, Any]]:
    """The schemas of the pack's nodes as the server knows them."""
    every = json.loads(get(server, "/object_info"))
    return {name: info for name, info in every.items() if info["python_module"] == f"custom_nodes.{PACK}"}


def all_inputs(info: dict[str, Any]) -> dict[str, list[Any]]:
    """The inputs of a schema by name: type and options."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def expected_translation(info: dict[str, Any]) -> dict[str, Any]:
    """What nodeDefs.json holds for a node in the language of its schema."""
    inputs: dict[str, Any] = {}
    for name, (_, options) in all_inputs(info).items():
        inputs[name] = {"name": name, "tooltip": options["tooltip"]}
        if options.get("control_after_generate"):
            inputs["control_after_generate"] = {"name": "control after generate"}
    outputs = {
        str(index): {"name": name, "tooltip": tooltip}
        for index, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"] or ()))
    }
    named = {"display_name": info["display_name"], "description": info["description"]}
    return named | ({"inputs": inputs} if inputs else {}) | ({"outputs": outputs} if outputs else {})


def texts(translation: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The texts of nested dicts by their path."""
    if isinstance(translation, str):
        return {path: translation}
    found: dict[tuple[str, ...], str] = {}
    for key, value in translation.items():
        found |= texts(value, (*path, key))
    return found


def test_every_node_has_a_help_page_that_names_its_inputs_and_outputs(server: ComfyServer) -> None:
    nodes = our_nodes(server)
    assert sorted(nodes) == sorted(ORDER)
    for node_id, info in nodes.items():
        page = get(server, f"/extensions/{PACK}/docs/{node_id}/en.md")
        assert page.startswith(f"# {info['display_name']}\n")
        for heading in ("Inputs", "Outputs", "A minimal graph", "Troubleshooting"):
            assert f"\n## {heading}\n" in page, node_id
        names = [*info["input"].get("required", {}), *info["input"].get("optional", {}), *info["output_name"]]
        assert [name for name in names if f"**{name}**" not in page] == [], node_id


def test_the_menu_has_the_groups_of_the_readme(server: ComfyServer, repository: Path) -> None:
    expected = {f"{PREFIX}{name}": f"{PREFIX}/{group}" for group, names in GROUPS.items() for name in names}
    assert {node_id: info["category"] for node_id, info in our_nodes(server).items()} == expected
    for language in LANGUAGES:
        texts = json.loads((repository / "locales" / language / "main.json").read_text(encoding="utf-8"))
        assert list(texts["nodeCategories"]) == list(GROUPS)


def test_what_is_rarely_touched_is_advanced(server: ComfyServer) -> None:
    """Only what has a value of its own may be hidden: never a socket that a graph needs."""
    advanced = {
        node_id.removeprefix(PREFIX): names
        for node_id, info in our_nodes(server).items()
        if (names := [name for name, (_, options) in all_inputs(info).items() if options.get("advanced")])
    }
    assert advanced == {
        "AdjustDepth": ["min_m", "max_m"],
        "BlendDepth": ["ignore_camera"],
        "ComposeDepth": ["ground_extent_m", "ground_confidence", "background_confidence"],
        "DepthToImages": ["normal_convention"],
        "DepthToMesh": ["batch_index", "decimation", "confidence_threshold"],
        "LayoutConditioning": ["object_prompt"],
        "PlanLayout": ["attempts", "max_tokens", "instructions"],
        "PredictDepth": ["mode", "steps", "guidance"],
        "ScaffoldMesh": ["pitch_deg", "roll_deg", "batch_index"],
        "ScaffoldObject": ["pitch_deg", "roll_deg"],
    }
    for info in our_nodes(server).values():
        assert all("default" in options for _, options in all_inputs(info).values() if options.get("advanced"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_is_served_in_every_language_with_its_picture(server: ComfyServer, language: str) -> None:
    names = json.loads(get(server, "/i18n"))[language]["nodeDefs"]
    for node_id in our_nodes(server):
        page = get(server, f"/extensions/{PACK}/docs/{node_id}/{language}.md")
        assert page.startswith(f"# {names[node_id]['display_name']}\n")
        (address,) = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
        # The front end puts this before it: /extensions/<pack>/docs/.
        with DIRECT.open(f"{server.url}/extensions/{PACK}/docs/{address}", timeout=60) as response:
            assert response.headers["Content-Type"] == "image/png"
            assert response.read(8) == b"\x89PNG\r\n\x1a\n"


def test_every_input_and_output_has_a_tooltip_and_every_node_aliases(server: ComfyServer) -> None:
    for node_id, info in our_nodes(server).items():
        without = [name for name, (_, options) in all_inputs(info).items() if not options.get("tooltip", "").strip()]
        assert without == [], node_id
        assert len(info["output_tooltips"] or ()) == len(info["output"]), node_id
        assert all(tooltip and tooltip.strip() for tooltip in info["output_tooltips"] or ()), node_id
        aliases = info["search_aliases"]
        assert len(aliases) >= 4, node_id
        assert len(set(aliases)) == len(aliases), node_id
        assert [alias for alias in aliases if not alias.strip() or alias != alias.lower()] == [], node_id


def test_english_is_what_the_schemas_say(server: ComfyServer) -> None:
    served = json.loads(get(server, "/i18n"))["en"]["nodeDefs"]
    for node_id, info in our_nodes(server).items():
        assert served[node_id] == expected_translation(info)


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_cover_every_node_input_and_output(server: ComfyServer, language: str) -> None:
    served = json.loads(get(server, "/i18n"))[language]["nodeDefs"]
    nodes = our_nodes(server)
    expected = texts({node_id: expected_translation(info) for node_id, info in nodes.items()})
    found = texts({node_id: served[node_id] for node_id in nodes})
    assert found.keys() == expected.keys()
    assert [path for path, text in found.items() if not text.strip() or MESSAGE_SYNTAX & set(text)] == []
