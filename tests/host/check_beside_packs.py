"""`python -m tests.host.check_beside_packs FOLDER`: does this pack get along with the packs in FOLDER? By hand, not CI.

FOLDER holds one folder a pack, as custom_nodes would. Their requirements must be in the environment whose Python is
given by --python: a throw-away copy of a ComfyUI's, never this repository's own. Some packs install packages or
download models when they are loaded.

The newest host is started twice with them: without this pack, and with a clone of it. What both servers, and their
front ends in a browser, register is compared: nodes, routes, socket colours, widgets, settings, commands, extensions,
console errors. Everything that was there without this pack must be there with it, unchanged; everything that comes with
it must be its own. Then each of its templates is opened in the browser beside the others, and the demo runs. Exit
status 0 if all that is so.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.host.browser import Browser, HostPage
from tests.host.server import ComfyServer
from tests.pack_copies import declared_nodes, git, make_checkout
from tools import hosts
from tools.host_process import DIRECT, PACK_FOLDER

ROOT = Path(__file__).resolve().parents[2]
DEMO = "text_to_image_mini"
# Packs go on loading scripts after the first graph is there; a graph loaded meanwhile is replaced.
SETTLE_MS = 8000
# The host's types that have no colour of theirs; the pack gives them one, as it does its own.
COLOURED_TYPES = {"MOGE_GEOMETRY", "DA3_GEOMETRY"}
# Numbers, choices and switches: what it breaks for, breaks for stock nodes too.
STOCK_GRAPH = {
    "version": 0.4,
    "last_node_id": 1,
    "last_link_id": 0,
    "links": [],
    "nodes": [
        {
            **{"id": 1, "type": "MoGeInference", "pos": [100, 100], "size": [300, 200], "flags": {}, "order": 0},
            **{"mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": [9, 0, 4, True, True]},
        }
    ],
}
# A pack that tells what the server's other packs have registered.
_ROUTES_PACK = """
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}

@PromptServer.instance.routes.get("/spatialfusion_check/routes")
async def list_routes(request):
    routes = request.app.router.routes()
    module = lambda route: getattr(route.handler, "__module__", "")
    return web.json_response({f"{route.method} {route.resource.canonical}": module(route) for route in routes})
"""
_FRONT_END = """() => {
    const app = window.app, types = window.LiteGraph.registered_node_types
    const by = (items, name, value) => Object.fromEntries(items.map(item => [name(item), value(item)]))
    const names = object => by(Object.keys(object ?? {}), name => name, () => true)
    return {
        "node types": by(Object.entries(types), ([name]) => name, ([, type]) => type.title),
        "extensions": by(app.extensions, extension => extension.name, extension => Object.keys(extension).sort()),
        "widgets": names(app.widgets),
        "socket colours": {...app.canvas.default_connection_color_byType},
        "settings": names(app.ui.settings.settingsLookup),
        "commands": by(app.extensionManager?.command?.commands ?? [], item => item.id, item => item.source ?? ""),
    }
}"""


def start(folder: Path, packs: Path, python: Path | None, ours: bool) -> ComfyServer:
    """The newest host with copies of the packs, and a clone of this one if `ours`."""
    server = ComfyServer(ROOT, hosts.NEWEST.version, folder, link_pack=False, python=python)
    custom_nodes = server.base / "custom_nodes"
    for pack in sorted(path for path in packs.iterdir() if path.is_dir()):
        shutil.copytree(pack, custom_nodes / pack.name, ignore=shutil.ignore_patterns("__pycache__", ".git"))
    (custom_nodes / "spatialfusion_check.py").write_text(_ROUTES_PACK, encoding="utf-8")
    # What templates show in Load Image.
    shutil.copy(hosts.host_folder(ROOT, hosts.NEWEST.version) / "input" / "example.png", server.base / "input")
    if ours:
        checkout = make_checkout(ROOT, folder / "checkout")
        git(custom_nodes, "clone", "--quiet", checkout.as_uri(), PACK_FOLDER)
    server.start(timeout_s=900)
    return server


def get(server: ComfyServer, path: str) -> Any:
    with DIRECT.open(f"{server.url}/{path}", timeout=120) as response:
        return json.load(response)


def registered(server: ComfyServer, page: HostPage) -> dict[str, dict[str, Any]]:
    """What is registered, by kind: {name: what it is}. Waits until the front end has every node and is at rest."""
    nodes = get(server, "object_info")
    everything = "names => names.every(name => window.LiteGraph.registered_node_types[name])"
    page.tab.wait_for_function(everything, arg=list(nodes), timeout=60_000)
    page.tab.wait_for_timeout(SETTLE_MS)
    scripts = get(server, "extensions")
    routes: dict[str, str] = get(server, "spatialfusion_check/routes")
    front_end = page.tab.evaluate(_FRONT_END)
    # A type that has no colour of its own is listed with an empty one as soon as a node has it.
    front_end["socket colours"] = {name: colour for name, colour in front_end["socket colours"].items() if colour}
    return {
        "nodes": {name: node["python_module"] for name, node in nodes.items()},
        "routes": {route: module.split("custom_nodes/")[-1] for route, module in routes.items()},
        "scripts": {name: True for name in scripts},
        **front_end,
        "console errors": {re.sub(r":\d{4,5}/", "/", error): True for error in page.console_errors()},
    }


def is_ours(kind: str, name: str, value: Any) -> bool:
    """Whether something that came with this pack carries its name."""
    if kind == "console errors":
        return False
    if kind == "socket colours":
        return all(part in COLOURED_TYPES or part.startswith("SPATIALFUSION") for part in name.split(","))
    return "spatialfusion" in f"{name} {value}".lower()


def compare(without: dict[str, dict[str, Any]], together: dict[str, dict[str, Any]]) -> list[str]:
    """One line a clash; prints what came with this pack."""
    clashes = []
    for kind, before in without.items():
        after = together[kind]
        new = {name: value for name, value in after.items() if name not in before}
        foreign = sorted(name for name, value in new.items() if not is_ours(kind, name, value))
        if kind != "console errors":  # fewer of them is no loss
            clashes += [f"{kind}: {name} is gone" for name in sorted(before.keys() - after.keys())]
        clashes += [f"{kind}: {name} came with this pack and is not its own" for name in foreign]
        changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
        clashes += [f"{kind}: {name} was {before[name]!r} and became {after[name]!r}" for name in changed]
        print(f"{kind}: {len(before)} without, {len(new)} new, {len(changed)} changed")
    return clashes


def errors_of_others(page: HostPage) -> set[str]:
    """The first lines of the console errors that opening a stock node of every widget type gives beside the packs."""
    before = len(page.console_errors())
    page.load_graph(STOCK_GRAPH)
    return {error.splitlines()[0] for error in page.console_errors()[before:]}


def check_templates(page: HostPage, pack: Path, known_errors: set[str]) -> list[str]:
    """Run the demo beside the other packs, and open every template; returns what went wrong."""
    wrong = []
    # The demo first: templates of real models open a dialog about files that are not here.
    for path in sorted((pack / "workflows").glob("*.json"), key=lambda path: path.stem != DEMO):
        known = len(page.console_errors())
        page.load_graph(json.loads(path.read_text(encoding="utf-8")))
        wrong += [f"template {path.stem}: the front end does not know {node}" for node in page.unknown_nodes()]
        errors = [error for error in page.console_errors()[known:] if error.splitlines()[0] not in known_errors]
        wrong += [f"template {path.stem}: {error}" for error in errors]
        print(f"template {path.stem}: {len(page.graph_to_prompt())} nodes")
        if path.stem == DEMO:
            outputs = page.run()
            if not any(output.get("metric_depth") for output in outputs.values()):
                wrong.append("the demo gave no depth")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", type=Path, help="the Python whose environment has the packs' requirements")
    parser.add_argument("--logs", type=Path, help="a folder for the servers' logs")
    options = parser.parse_args()
    seen: list[dict[str, dict[str, Any]]] = []
    problems: list[str] = []
    known_errors: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch, Browser() as browser:
        for ours in (False, True):
            server = start(Path(scratch, str(ours)), options.folder, options.python, ours)
            try:
                with browser.open(server) as page:
                    seen.append(registered(server, page))
                    if not ours:
                        known_errors = errors_of_others(page)
                        print("\n".join(["Console errors without this pack:", *sorted(known_errors)]))
                    pack = server.base / "custom_nodes" / PACK_FOLDER
                    if ours:
                        nodes = seen[-1]["nodes"]
                        problems += [
                            f"nodes: {name} is {nodes.get(name)}"
                            for name in sorted(declared_nodes(pack))
                            if nodes.get(name) != f"custom_nodes.{PACK_FOLDER}"
                        ]
                        problems += check_templates(page, pack, known_errors)
            finally:
                server.stop()
                log = server.log_text()
                if options.logs:
                    options.logs.mkdir(parents=True, exist_ok=True)
                    (options.logs / f"{'with' if ours else 'without'}.log").write_text(log, encoding="utf-8")
            times = log[log.rfind("Import times for custom nodes:") :].split("\n\n")[0]
            print(f"\n{'With' if ours else 'Without'} this pack. {times}\n")
    problems += compare(*seen)
    print("\n".join(["", *problems, f"{len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
