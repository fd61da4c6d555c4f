"""A help page's minimal graph on the canvas of a real front end: loaded, run, laid out, and looked at for blemishes."""

from __future__ import annotations

from tests.host.browser import HostPage
from tests.host.help_graphs import GRAPHS
from tests.host.server import Graph

VIEWPORT = {"width": 2400, "height": 1300}
# Where on the page the front end puts nothing over the canvas.
CORNER = (110, 110)
SPACE = (2180, 1080)
SETTINGS = {"Comfy.Minimap.Visible": False, "Comfy.VueNodes.Enabled": False}
SHOWN = """() => window.app.graph.nodes.every(node =>
    !window.app.nodeOutputs[node.id]?.images || node.type.startsWith('SpatialFusion') || node.imgs?.length)"""
# Columns from left to right, every source beside what it feeds; what has one source and is small goes below it. A wire
# that would run behind a node goes above all.
LAY_OUT = """([left, top, width, height]) => {
    const { graph, canvas } = window.app, title = window.LiteGraph.NODE_TITLE_HEIGHT, gap = 100;
    const links = [...graph.links.values()], level = new Map(graph.nodes.map(node => [node.id, 0]));
    const type = id => graph.getNodeById(id).type;
    const step = link => type(link.target_id) === 'SpatialFusionLoader' || type(link.origin_id) === 'VAEDecode' ? 0 : 1;
    for (const _ of graph.nodes)
        for (const link of links)
            level.set(link.target_id, Math.max(level.get(link.target_id), level.get(link.origin_id) + step(link)));
    for (const node of graph.nodes) {
        if (!links.some(link => link.target_id == node.id))
            level.set(node.id, Math.min(...links.filter(link => link.origin_id == node.id)
                .map(link => level.get(link.target_id) - step(link))));
        for (const widget of node.widgets ?? []) if (widget.name === 'control_after_generate') widget.value = 'fixed';
    }
    const columns = [];
    for (const node of graph.nodes) (columns[level.get(node.id)] ??= []).push(node);
    for (const id of [...graph.reroutes.keys()]) graph.removeReroute(id);
    const edges = [];
    let x = 0;
    for (const column of columns) {
        const wide = Math.max(250, ...column.map(node => Math.max(node.size[0], node.computeSize()[0])));
        let y = 0;
        for (const node of column) {
            const grows = node.widgets?.some(widget => widget.element && widget.element.tagName !== 'TEXTAREA');
            const fitted = node.imgs ? wide + 60 : grows ? node.size[1] : 0;
            node.setSize([wide, Math.max(node.computeSize()[1], fitted)]);
            node.pos = [x, y];
            y += node.size[1] + title + 30;
        }
        edges.push([x, x + wide]);
        x += wide + gap;
    }
    let lane = -title;
    for (const link of links) {
        const [from, to] = [level.get(link.origin_id), level.get(link.target_id)];
        if (to - from < 2) continue;
        lane -= 14;
        graph.createReroute([edges[from + 1][0] - gap / 2, lane], link);
        graph.createReroute([edges[to - 1][1] + gap / 2, lane], link);
    }
    const y0 = lane, y1 = Math.max(...graph.nodes.map(node => node.pos[1] + node.size[1]));
    const scale = Math.min(1, width / (x - gap), height / (y1 - y0));
    canvas.deselectAll();
    canvas.background_image = "";
    canvas.clear_background_color = "#181818";
    canvas.ds.scale = scale;
    canvas.ds.offset = [left / scale, top / scale - y0];
    canvas.setDirty(true, true);
    return [(x - gap) * scale, (y1 - y0) * scale];
}"""
BLEMISHES = """count => {
    const { graph } = window.app, found = [], context = document.createElement('canvas').getContext('2d');
    const named = id => graph.getNodeById(id).title;
    const visible = selector => [...document.querySelectorAll(selector)].filter(item => item.checkVisibility());
    for (const item of visible('.p-toast-message, [data-toast-kind], [data-testid="error-overlay"], .p-dialog'))
        found.push(`over the canvas: ${item.textContent.trim()}`);
    for (const node of graph.nodes) {
        if (node.has_errors || node.last_errors?.length) found.push(`${node.title} is marked as wrong`);
        for (const widget of node.widgets ?? []) {
            const choices = Array.isArray(widget.options?.values) ? widget.options.values : null;
            if (widget.type !== 'button' && !widget.element && (widget.value ?? 'undefined') === 'undefined')
                found.push(`${node.title}: ${widget.name} is empty`);
            if (widget.type === 'combo' && choices && !choices.includes(widget.value))
                found.push(`${node.title}: there is no ${widget.name} ${widget.value}`);
        }
    }
    const links = [...graph.links.values()];
    if (links.length !== count) found.push(`${links.length} of ${count} wires`);
    context.lineWidth = 6;
    for (const link of links) {
        const paths = [link.path];
        for (let part = graph.reroutes.get(link.parentId); part; part = graph.reroutes.get(part.parentId))
            paths.push(part.path);
        const wire = `the wire from ${named(link.origin_id)} to ${named(link.target_id)}`;
        if (paths.some(path => !path)) { found.push(`${wire} is not drawn`); continue }
        for (const node of graph.nodes) {
            if (node.id === link.origin_id || node.id === link.target_id) continue;
            const [x, y, width, height] = node.boundingRect;
            const behind = paths.some(path => {
                for (let along = 0; along <= 1; along += 0.005)
                    for (const point of [[x + along * width, y + 2], [x + along * width, y + height - 2],
                                         [x + 2, y + along * height], [x + width - 2, y + along * height]])
                        if (context.isPointInStroke(path, ...point)) return true;
                return false;
            });
            if (behind) found.push(`${wire} runs behind ${node.title}`);
        }
    }
    return found;
}"""


def prepare(page: HostPage) -> None:
    """Make room on the page, and set what the pictures are taken with."""
    page.tab.set_viewport_size(VIEWPORT)
    for name, value in SETTINGS.items():
        page.tab.evaluate("([n, v]) => window.app.extensionManager.setting.set(n, v)", [name, value])


def numbered(graph: Graph, start: int) -> Graph:
    """The graph with numbers from `start` on for its nodes' names, as the front end wants them."""
    numbers = {name: str(number) for number, name in enumerate(graph, start)}
    return {
        numbers[name]: {
            "class_type": entry["class_type"],
            "inputs": {
                key: [numbers[value[0]], value[1]] if isinstance(value, list) else value
                for key, value in entry["inputs"].items()
            },
        }
        for name, entry in graph.items()
    }


# The front ends have different names for it.
CLOSE_MESSAGES = """() => {
    const { toast } = window.app.extensionManager;
    (toast.removeAll ?? toast.dismissAll).call(toast);
}"""


def show(page: HostPage, node_id: str) -> tuple[float, float]:
    """Load the graph of a node's page, run it, and lay it out from CORNER on; returns its width and height there."""
    # Numbers of their own: the front end keeps results of the graph before by number, and marks of missing models.
    graph = numbered(GRAPHS[node_id], 1000 + 20 * list(GRAPHS).index(node_id))
    page.tab.evaluate("async graph => { await window.app.loadApiJson(graph, 'help') }", graph)
    page.tab.evaluate(LAY_OUT, [*CORNER, *SPACE])  # a node out of sight loads no picture
    page.run()
    page.tab.wait_for_function(SHOWN, timeout=60_000)
    page.tab.evaluate(CLOSE_MESSAGES)
    page.tab.wait_for_function("() => !document.querySelector('.p-toast-message, [data-toast-kind]')")
    page.tab.mouse.move(5, VIEWPORT["height"] - 5)
    width, height = page.tab.evaluate(LAY_OUT, [*CORNER, *SPACE])
    page.tab.wait_for_timeout(500)  # the canvas draws in its own time
    return width, height


def blemishes(page: HostPage, node_id: str) -> list[str]:
    """What does not belong into the picture of a graph that `show` has shown: one line each, none if all is well."""
    count = sum(isinstance(value, list) for entry in GRAPHS[node_id].values() for value in entry["inputs"].values())
    return page.tab.evaluate(BLEMISHES, count)
