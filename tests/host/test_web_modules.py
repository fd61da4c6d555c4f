"""The modules of web/, each on its own, in a real front end: numbers by hand, and what is said when something fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.host.browser import HostPage

WEB = "/extensions/ComfyUI-SpatialFusion"
# What the reader of .npy files says of HTML, of integers and of a file that is cut off, without repetitions.
UNREADABLE = """async web => {
    const { parseNpy } = await import(`${web}/js/npy.js`);
    const file = (descr, shape) => "\\x93NUMPY\\x01\\x00\\x76\\x00" +
        `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`.padEnd(117) + "\\n";
    const said = ["<html></html>", file("<i4", "(0,)"), file("<f4", "(1, 2, 2)")].map((text) => {
        try {
            return parseNpy(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
        } catch (error) {
            return error.message;
        }
    });
    return [...new Set(said)];
}"""
# In Japanese, from a server that is down: the viewer's setup goes on, in English.
WITHOUT_TRANSLATIONS = """async web => {
    const { loadTexts, text } = await import(`${web}/js/texts.js`);
    const app = { extensionManager: { setting: { get: () => "ja" } } };
    await loadTexts(app, { fetchApi: async () => { throw new TypeError("Failed to fetch"); } });
    await loadTexts(app, { fetchApi: async () => new Response("busy", { status: 503 }) });
    return text("colourMap");
}"""


def random_depths() -> list[np.ndarray]:
    """Odd and even counts, equal values, the smallest and largest numbers, and a sky."""
    generator = np.random.default_rng(0)
    depths = [generator.lognormal(1, 2, size).astype(np.float32) for size in (1, 2, 1001, 1002)]
    depths += [np.full(7, 3, np.float32), np.float32([1e-38, 3e38, 1, 1 + 2**-23])]
    depths[3][::3] = np.inf
    return depths


def test_every_module_loads_and_does_what_it_says(page: HostPage, repository: Path) -> None:
    """By hand: ticks, ranges and numbers of depths without surface or extent; what is shown when something fails."""
    modules = [path.relative_to(repository / "web").as_posix() for path in (repository / "web").glob("**/*.js")]
    assert len(modules) >= 10
    page.tab.evaluate("paths => Promise.all(paths.map(path => import(path)))", [f"{WEB}/{path}" for path in modules])
    assert page.tab.evaluate(UNREADABLE, WEB) == [
        "The server's answer is no depth that this page can read. Reload the page."
    ]
    assert page.tab.evaluate(WITHOUT_TRANSLATIONS, WEB) == "Colour map"
    found = page.tab.evaluate(
        """async ([web, RANDOM_DEPTHS]) => {
            const module = await import(`${web}/js/statistics.js`);
            const { axisTicks, fittedRange, formatMetres, histogram, statistics } = module;
            const { pixelOfImage } = await import(`${web}/js/camera.js`);
            const PIXEL = { column: 4, row: 0 };
            const depth = Float32Array.of(3, 1, Infinity, 2, 10);
            return {
                numbers: statistics(depth),
                nothing: fittedRange(statistics(Float32Array.of(Infinity))),
                constant: fittedRange(statistics(Float32Array.of(5, 5))),
                bins: [...histogram(depth, { near: 1, far: 100 }, 2)],
                narrow: axisTicks({ near: 2, far: 6 }),
                wide: axisTicks({ near: 0.1, far: 1000 }),
                random: RANDOM_DEPTHS.map((values) => statistics(Float32Array.from(values, (value) => value ?? NaN))),
                place: pixelOfImage({ width: 5, height: 1, step: 16, full_width: 72, full_height: 3 }, PIXEL),
                texts: [1234.567, 0.12345, Infinity].map(formatMetres),
            };
        }""",
        [WEB, [[None if np.isinf(value) else float(value) for value in depth] for depth in random_depths()]],
    )
    for numbers, depth in zip(found["random"], random_depths()):
        surface = depth[np.isfinite(depth)]
        assert (numbers["min"], numbers["max"]) == (surface.min(), surface.max())
        assert numbers["median"] == pytest.approx(np.median(surface.astype(np.float64)), rel=1e-12)
        assert numbers["skyShare"] == pytest.approx(1 - len(surface) / len(depth))
    assert found["place"] == {"column": 4 * 16 + 8, "row": 2}, "a thin image begins with its last row"
    assert found["numbers"] == {"min": 1, "median": 2.5, "max": 10, "skyShare": pytest.approx(0.2)}
    assert found["nothing"] == {"near": 0.5, "far": 100}
    assert found["constant"] == {"near": pytest.approx(5 / 1.1), "far": pytest.approx(5.5)}
    assert found["bins"] == [0.75, 0.25]
    assert found["narrow"] == [2, 3, 4, 5, 6]
    assert found["wide"] == pytest.approx([0.1, 1, 10, 100, 1000])
    assert found["texts"] == ["1235 m", "0.1235 m", "no surface"]
