"""The layout of a prediction in real servers: composed, shown, moved and fed back, as sf_model's own system has it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_model.backbones.mini import TOKENIZER_DIR
from sf_model.models.depth_flow import DepthSampling, draw_noise
from sf_model.models.expert_inputs import ExpertInputs
from sf_model.scaffold.layout import Layout, LayoutCamera, LayoutObject, compose_layout
from sf_model.scaffold.layout_numbers import given_layout, scene_of
from sf_model.scaffold.layout_reading import read_layout
from sf_model.training.export import export_mini, load_exported
from sf_model.training.system import System
from tests.host.mini_checkpoints import TOKEN
from tests.host.mini_graphs import BUILT_IN, GEOMETRY, PROMPT, node, predict_graph
from tests.host.server import ComfyServer, Graph, PromptError
from tests.host.test_layout_inputs import is_composed
from tests.host.test_scaffold import compose, outputs_of
from tests.host.test_trained_checkpoint import pack_with
from tests.unit.dummy_systems import DUMMY, untrained_system
from tools import hosts
from tools.host_process import PACK_FOLDER, link_folder

SIDE = 64
# Of a scene with two objects in the picture.
SEED = 4
LAYOUT = ["predict", 3]
LAST_SEED = 0xFFFFFFFFFFFFFFFF
# Relative: the host's attention adds up in another order.
TOLERANCE = 2e-4
CAR = LayoutObject("red car", "car", (0.5, 0.0, 8.0), 60.0, (1.8, 1.5, 4.2))
GIVEN = Layout(LayoutCamera(1.4, 6.0, 55.0), True, (CAR,))


def graph_with(text: str | None = None, checkpoint: str = BUILT_IN, **options: object) -> Graph:
    """Predict Metric Depth, whose layout is a text where one is given, and is shown as text."""
    graph = predict_graph(PROMPT, SIDE, SIDE, checkpoint)
    graph["predict"]["inputs"] |= options
    graph["shown"] = node("PreviewAny", source=LAYOUT)
    if text is not None:
        graph["text"] = node("PrimitiveStringMultiline", value=text)
        graph["predict"]["inputs"]["layout"] = ["text", 0]
    return graph


def depth_and_text(server: ComfyServer, graph: Graph) -> tuple[np.ndarray, str]:
    """(H, W) metres of the first scene, and the layout as Preview as Text shows it."""
    save = node("SpatialFusionSaveDepth", geometry=GEOMETRY, filename_prefix="tests/layouts")
    outputs = server.run(graph | {"save": save})
    saved = io.BytesIO(server.view(outputs["save"]["metric_depth"][0]))
    return np.load(saved, allow_pickle=False)["depth_m"], outputs["shown"]["text"][0]


@dataclass(frozen=True)
class LayoutHost:
    """A server whose built-in Mini has layouts, and the same Mini in sf_model."""

    server: ComfyServer
    system: System

    def inputs(self) -> ExpertInputs:
        """Of the prompt."""
        prompt = self.system.base.encode(*self.system.base.tokens.batch([PROMPT], False), None)
        return self.system.inputs(prompt, SIDE, SIDE)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Mini with layouts. An object that moves by 2 m changes its depth by parts of a percent."""
    folder = tmp_path_factory.mktemp("exported")
    system = untrained_system(folder, DUMMY)
    predictor = system.predictor
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        predictor.layout.state_out.weight.normal_(std=0.1, generator=generator)
        predictor.layout_encoder.object_out.weight.normal_(std=0.5, generator=generator)
        for weight in predictor.spatial_transformer.layers.parameters():
            if weight.ndim == 2:
                weight.mul_(3)
        predictor.depth_head.out_conv2.weight.mul_(4)
        predictor.depth_head.out_conv2.bias.copy_(torch.tensor([0.0, 4.0, 0.0]))  # a surface everywhere
    export_mini(system, folder / TOKENIZER_DIR, folder, "base-0", {}, dtype=torch.float32)
    return folder


@pytest.fixture(scope="module", params=list(hosts.RELEASES))
def host(
    request: pytest.FixtureRequest,
    repository: Path,
    checkout: Path,
    exported: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LayoutHost]:
    """One server of each version for this file."""
    folder = tmp_path_factory.mktemp("layouts")
    server = ComfyServer(repository, request.param, folder / "host", link_pack=False)
    link_folder(server.base / "custom_nodes" / PACK_FOLDER, pack_with(exported, checkout, folder / "pack"))
    server.start()
    try:
        yield LayoutHost(server, load_exported(exported))
    finally:
        server.stop()


@torch.no_grad()
def own_depth(system: System, inputs: ExpertInputs, seed: int) -> np.ndarray:
    noise = draw_noise(system.predictor.noise_shape(1, SIDE, SIDE), seed)
    return system.predictor.sample(inputs, DepthSampling(noise)).to_metric_depth().depth[0].numpy()


def test_a_layout_is_drawn_moved_and_fed_back(host: LayoutHost) -> None:
    """By its text. The depth is that of sf_model's own system with the same layouts."""
    server, system, inputs = host.server, host.system, host.inputs()
    words = system.config.layout
    drawn_inputs = system.with_layout(inputs, [SEED])
    drawn = scene_of(drawn_inputs.layout, words)
    seen = given_layout(drawn, words, SIDE, SIDE).layout.objects
    assert len(seen) >= 2

    before, text = depth_and_text(server, graph_with(seed=SEED))
    found = read_layout(text)
    assert found.notes == ()
    assert [(thing.name, thing.shape) for thing in found.layout.objects] == [(o.name, o.shape) for o in drawn.objects]
    for thing, expected in zip(found.layout.objects, drawn.objects):
        assert thing.position_m == pytest.approx(expected.position_m, rel=1e-3, abs=1e-3)
        assert thing.size_m == pytest.approx(expected.size_m, rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(before, own_depth(system, drawn_inputs, SEED), rtol=TOLERANCE)

    place = found.layout.objects.index(next(thing for thing in found.layout.objects if thing.name == seen[0].name))
    thing = found.layout.objects[place]
    x, y, z = thing.position_m
    objects = list(found.layout.objects)
    objects[place] = replace(thing, position_m=(x, y, z + 2.0))
    moved = replace(found.layout, objects=tuple(objects))
    after, used = depth_and_text(server, graph_with(moved.to_json(), seed=SEED))
    given = given_layout(read_layout(moved.to_json()).layout, words, SIDE, SIDE)
    assert read_layout(used).layout == read_layout(given.layout.to_json()).layout
    np.testing.assert_allclose(after, own_depth(system, replace(inputs, layout=given.numbers), SEED), rtol=TOLERANCE)
    assert np.abs(np.log(after / before)).mean() > 10 * TOLERANCE


def test_a_predicted_layout_is_composed(host: LayoutHost) -> None:
    """The same from the same seed, whatever else changes, and another from another seed."""
    server = host.server
    texts = [depth_and_text(server, graph_with(seed=seed, steps=steps))[1] for seed, steps in ((3, 1), (3, 2), (4, 1))]
    assert texts[0] == texts[1] != texts[2]
    outputs, arrays = outputs_of(server, graph_with(seed=3) | {"compose": compose(layout=LAYOUT)})
    layout = read_layout(texts[0]).layout
    assert outputs["compose"]["spatialfusion_layout"][0]["layout"] == layout.to_dict()
    drawn = scene_of(host.system.with_layout(host.inputs(), [3]).layout, host.system.config.layout)
    expected = compose_layout(drawn, SIDE, SIDE).depth.depth[0].numpy()
    with np.errstate(invalid="ignore"):  # sky beside sky is inf / inf
        differs = np.abs(arrays["depth_m"] / expected - 1) > TOLERANCE
    assert np.mean(differs) < 0.01  # pixels at an edge may see either side
    assert np.array_equal(np.isinf(arrays["depth_m"]), np.isinf(expected))
    assert float(arrays["fov_y_deg"]) == pytest.approx(layout.camera.fov_y_deg, abs=1e-3)


def test_a_scene_of_the_editor_is_fed_back(host: LayoutHost) -> None:
    """The drawn layout, changed by hand on Compose Depth Scaffold, is what the depth is predicted from."""
    server = host.server
    expected, text = depth_and_text(server, graph_with(GIVEN.to_json(), seed=8, steps=1))
    graph = graph_with(seed=8, steps=1)
    graph["drawn"] = graph.pop("predict")
    graph["compose"] = compose(layout=["drawn", 3], edited_layout=GIVEN.to_json())
    inputs = graph["drawn"]["inputs"] | {"layout": ["compose", 3]}
    graph["predict"] = node("SpatialFusionPredictDepth", **inputs)
    graph["again"] = graph.pop("shown")
    found, shown = depth_and_text(server, graph | {"shown": node("PreviewAny", source=["compose", 3])})
    assert shown == text == GIVEN.to_json()
    np.testing.assert_array_equal(found, expected)


def test_a_given_layout_is_that_of_every_scene(host: LayoutHost) -> None:
    """Drawn ones are another for every seed of a batch, also after the last seed; the first is shown."""
    graph = graph_with(seed=LAST_SEED, batch_size=2, steps=1)
    _, first = depth_and_text(host.server, graph)
    assert first == depth_and_text(host.server, graph_with(seed=LAST_SEED, steps=1))[1]
    graph = graph_with(GIVEN.to_json(), seed=5, batch_size=2, steps=1)
    assert read_layout(depth_and_text(host.server, graph)[1]).layout == GIVEN
    for mode in ("sampled", "mean"):
        graph = graph_with(GIVEN.to_json(), seed=6, mode=mode, steps=1)
        assert read_layout(depth_and_text(host.server, graph)[1]).layout == GIVEN


def test_what_a_checkpoint_cannot_hold_is_said_on_the_node(host: LayoutHost) -> None:
    floating = replace(CAR, name="car", position_m=(0.0, 1.0, 8.0))
    outputs = host.server.run(graph_with(replace(GIVEN, objects=(floating,)).to_json(), steps=1))
    (message,) = outputs["predict"]["text"]
    assert "set y of 'car' to 0: " in message and "write a colour into the name of 'car', one of red, " in message
    assert read_layout(outputs["shown"]["text"][0]).layout.objects[0].position_m == (0.0, 0.0, 8.0)
    crowd = replace(GIVEN, objects=tuple(replace(CAR, position_m=(k - 2.0, 0.0, 9.0)) for k in range(5)))
    with pytest.raises(PromptError, match="remove objects: the layout has 5 in the picture") as error:
        host.server.run(graph_with(crowd.to_json()))
    assert error.value.node_id == "predict"
    with pytest.raises(PromptError, match="write a layout such as"):
        host.server.run(graph_with("a red car"))


def test_a_checkpoint_without_layouts_has_none(server: ComfyServer) -> None:
    """An error for the nodes that need one. The depth is predicted as ever."""
    with pytest.raises(PromptError, match="disconnect layout, or connect it to Compose Depth Scaffold") as error:
        server.run(graph_with(GIVEN.to_json(), checkpoint=TOKEN))
    assert error.value.node_id == "predict"
    outputs = server.run(graph_with(checkpoint=TOKEN, steps=1))
    reason = "choose a checkpoint with layouts, or connect Plan Scene Layout instead: "
    assert outputs["shown"]["text"][0].startswith(reason)
    with pytest.raises(PromptError, match=reason) as error:
        outputs_of(server, graph_with(checkpoint=TOKEN, steps=1) | {"compose": compose(layout=LAYOUT)})
    assert error.value.node_id == "compose"
    with pytest.raises(PromptError, match="press Edit scene on Compose Depth Scaffold") as error:
        alone = {"compose": compose(), "words": node("SpatialFusionComposeDepth", **compose()["inputs"])}
        alone["words"]["inputs"]["layout"] = ["compose", 3]
        outputs_of(server, alone | {"end": node("PreviewImage", images=["words", 1])})
    assert error.value.node_id == "words"
    # What was edited by hand needs none.
    graph = graph_with(checkpoint=TOKEN, steps=1) | {"compose": compose(layout=LAYOUT, edited_layout=GIVEN.to_json())}
    is_composed(outputs_of(server, graph)[1], GIVEN)
