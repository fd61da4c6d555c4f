"""What the registry, a virus scanner and an old Windows ask of the sources, and what the pack may import."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.pack_copies import git

ROOT = Path(__file__).resolve().parents[2]
TRACKED = [ROOT / name for name in git(ROOT, "ls-files", "-co", "--exclude-standard").splitlines()]
SOURCES = [path for path in TRACKED if path.suffix == ".py" and path.is_file()]
# What runs in a user's ComfyUI, and what is beside it in sf_model to be run by hand; the archive leaves it out.
NODES = [path for path in SOURCES if path.is_relative_to(ROOT / "nodes")]
OFFLINE_TOOLS = {"training", "evaluation", "scene_reader", "world"}
MODEL = [
    path
    for path in SOURCES
    if path.is_relative_to(ROOT / "sf_model") and path.relative_to(ROOT).parts[1] not in OFFLINE_TOOLS
]
RUN_TIME = [ROOT / "__init__.py", *NODES, *MODEL]

HOST_BRINGS = {
    "comfy",
    "comfy_api",
    "comfy_extras",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
}
HOST_BRINGS |= {"torch", "numpy", "safetensors", "PIL", "tokenizers", "transformers", "aiohttp", "av"}
NO_IMPORT_AT_START = {"transformers", "diffusers", "torchvision", "torchaudio", "accelerate", "datasets", "tokenizers"}
DANGEROUS_MODULES = {"pickle", "marshal", "shelve", "dill", "subprocess", "ctypes", "pty", "code", "importlib"}
NETWORK_MODULES = {"urllib", "http", "requests", "httpx", "socket", "ftplib", "huggingface_hub", "ssl"}
DANGEROUS_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.startfile", "torch.load", "torch.hub.load"),
    *("hf_hub_download", "snapshot_download", "load_file_from_url", "comfy.utils.load_torch_file"),
}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def import_statements(path: Path, only_at_start: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    """only_at_start: not those in functions and under TYPE_CHECKING."""
    stack: list[ast.AST] = [parsed(path)]
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif only_at_start and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif only_at_start and isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING"):
            stack.extend(node.orelse)
        else:
            stack.extend(ast.iter_child_nodes(node))


def own_target(path: Path, node: ast.ImportFrom) -> str:
    """What a relative import takes from, as a path in the pack with a leading dot."""
    folder = path.parents[node.level - 1].relative_to(ROOT)
    return ".".join(["", *folder.parts, *((node.module or "").split(".") if node.module else [])])


def imports(path: Path, only_at_start: bool = False) -> Iterator[str]:
    """The modules that a file names: those outside the pack by their names, its own as paths with a leading dot.

    only_at_start: not those in functions and under TYPE_CHECKING.
    """
    for node in import_statements(path, only_at_start):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif node.level == 0:
            yield node.module or ""
        else:
            target = own_target(path, node)
            yield target
            yield from (f"{target}.{alias.name}" for alias in node.names)


def file_of(module: str) -> Path | None:
    """The file of one of the pack's own modules in `imports`' form, with a leading dot."""
    path = ROOT.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported_files(path: Path, only_at_start: bool = False) -> set[Path]:
    """The pack's own files that a file takes something from."""
    found = set()
    for node in import_statements(path, only_at_start):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            target = own_target(path, node)
            files = [file_of(f"{target}.{alias.name}") or file_of(target) for alias in node.names]
            found |= {file for file in files if file is not None}
    return found


def reached_at_start() -> dict[Path, set[str]]:
    """Every file of the pack that ComfyUI's start imports, with the outside modules that it names."""
    reached: dict[Path, set[str]] = {}
    waiting = [ROOT / "nodes" / "__init__.py"]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        names = set(imports(path, only_at_start=True))
        reached[path] = {name for name in names if not name.startswith(".")}
        own = [name for name in names if name.startswith(".")]
        packages = [".".join(name.split(".")[:end]) for name in own for end in range(2, len(name.split(".")) + 1)]
        waiting += [file for name in packages if (file := file_of(name)) is not None]
    return reached


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def offenders(paths: list[Path], is_bad: Callable[[Path], object]) -> list[tuple[str, object]]:
    """The files that `is_bad` says something about, with what it says."""
    return [(relative(path), found) for path in paths if (found := is_bad(path))]


def outside_modules(path: Path) -> set[str]:
    """The top-level names of all modules that a file names, at any place in it, less the pack's own."""
    return {name.split(".")[0] for name in imports(path) if not name.startswith(".")}


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]


def ruff(*arguments: str) -> str:
    """What ruff says about all sources, without this repository's settings and exceptions."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--exit-zero", *arguments]
    return subprocess.run([*command, *map(str, SOURCES)], capture_output=True, text=True, check=True).stdout


def test_finds_what_runs() -> None:
    names = {relative(path) for path in RUN_TIME}
    assert {"__init__.py", "nodes/mini/loader.py", "sf_model/checkpoint.py", "sf_model/backbones/mini.py"} <= names


def test_the_registrys_rules_are_clean() -> None:
    assert ruff("--ignore-noqa", "--select", "S102,S307,E702") == ""


def test_every_text_file_is_opened_with_an_encoding() -> None:
    assert ruff("--preview", "--select", "PLW1514") == ""


def test_sources_are_ascii_and_so_read_under_cp1252() -> None:
    read_by_the_host = [ROOT / "pyproject.toml", ROOT / "requirements.txt"]
    assert offenders([*SOURCES, *read_by_the_host], lambda path: not path.read_bytes().isascii()) == []


def test_nothing_dangerous_at_run_time() -> None:
    assert offenders(RUN_TIME, lambda path: outside_modules(path) & DANGEROUS_MODULES) == []
    assert offenders(RUN_TIME, lambda path: {dotted(call.func) for call in calls(path)} & DANGEROUS_CALLS) == []


def test_arrays_are_read_without_pickle() -> None:
    def unsafe_loads(path: Path) -> list[int]:
        loads = [call for call in calls(path) if dotted(call.func) in ("np.load", "numpy.load")]
        return [call.lineno for call in loads if "allow_pickle=False" not in ast.unparse(call)]

    assert offenders(RUN_TIME, unsafe_loads) == []


def test_no_network_at_run_time() -> None:
    assert offenders(RUN_TIME, lambda path: outside_modules(path) & NETWORK_MODULES) == []
    # The host's web server, aiohttp's, may be given routes; its client is not used.
    assert offenders(RUN_TIME, lambda path: "ClientSession" in path.read_text(encoding="utf-8")) == []


def test_the_front_end_asks_only_its_own_server() -> None:
    """An address in a comment or a link is fine, one that is fetched or imported is not."""
    fetched = re.compile(r"""(import|from|fetch|src|url)\W{0,8}["'(]\s*(https?:)?//""")
    pages = [path for path in TRACKED if path.is_relative_to(ROOT / "web") and path.suffix in (".js", ".css", ".html")]
    assert offenders(pages, lambda path: fetched.search(path.read_text(encoding="utf-8"))) == []


def test_imports_only_what_the_host_brings() -> None:
    known = HOST_BRINGS | set(sys.stdlib_module_names)
    assert offenders(RUN_TIME, lambda path: outside_modules(path) - known) == []


def test_the_start_imports_nothing_heavy_and_nothing_of_training() -> None:
    reached = reached_at_start()
    assert {relative(path) for path in reached} >= {
        "nodes/mini/loader.py",
        "sf_model/__init__.py",
        "sf_model/checkpoint.py",
    }
    outside = {name.split(".")[0] for names in reached.values() for name in names}
    assert outside & NO_IMPORT_AT_START == set()
    assert [relative(path) for path in reached if OFFLINE_TOOLS & set(path.relative_to(ROOT).parts)] == []


def test_no_node_ever_imports_training() -> None:
    """Not even in a function."""
    named = {name for path in RUN_TIME for name in imports(path) if name.startswith(".sf_model.")}
    assert ".sf_model.depth.metric_depth" in named
    assert {name for name in named if name.split(".")[2] in OFFLINE_TOOLS} == set()


def test_the_model_knows_nothing_of_the_host() -> None:
    host = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "server"}
    assert offenders(MODEL, lambda path: outside_modules(path) & host) == []
    assert offenders(MODEL, lambda path: {name for name in imports(path) if name.startswith(".nodes")}) == []


def test_requirements_name_nothing() -> None:
    """Least of all torch: the pack needs nothing, and a requirement changes the host of every user."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.split("#")[0].strip()] == []


def test_nothing_runs_at_install() -> None:
    """ComfyUI or its Manager would run a file of these names."""
    names = ("install.py", "uninstall.py", "prestartup_script.py", "disable.py", "enable.py")
    assert [name for name in names if (ROOT / name).exists()] == []


# The rooms of nodes/: a file imports from its own room and from rooms on lower floors.
FLOORS = {
    "inputs": 0,
    "host": 1,
    "runtime": 2,
    "generate": 3,
    "depth": 3,
    "scaffold": 3,
    "mini": 3,
    "checks": 3,
    "__init__": 4,
}


def room(path: Path) -> str:
    """The room of a file of nodes/: its folder there, or the name of a file that stands alone."""
    return Path(path.relative_to(ROOT / "nodes").parts[0]).stem


def test_imports_in_nodes_go_down_only() -> None:
    """The rooms on the top floor do not know each other."""
    assert {room(path) for path in NODES} == set(FLOORS)

    def upward(path: Path) -> list[str]:
        own = [file for file in imported_files(path) if file.is_relative_to(ROOT / "nodes")]
        others = [file for file in own if room(file) != room(path)]
        return [relative(file) for file in others if FLOORS[room(file)] >= FLOORS[room(path)]]

    assert imported_files(ROOT / "nodes" / "host" / "preview.py") >= {ROOT / "nodes" / "host" / "images.py"}
    assert offenders(NODES, upward) == []


def test_nodes_are_in_the_rooms_of_users_only() -> None:
    def schemas(path: Path) -> list[int]:
        functions = [part for part in ast.walk(parsed(path)) if isinstance(part, ast.FunctionDef)]
        return [function.lineno for function in functions if function.name == "define_schema"]

    below = [path for path in NODES if FLOORS[room(path)] < FLOORS["generate"]]
    assert offenders(below, schemas) == []
    assert len([path for path in NODES if schemas(path)]) >= 16


def test_no_node_decides_by_assert() -> None:
    """`python -O` leaves them out, and a user would read no remedy."""

    def asserts(path: Path) -> list[int]:
        return [part.lineno for part in ast.walk(parsed(path)) if isinstance(part, ast.Assert)]

    assert offenders(NODES, asserts) == []


def test_no_circle_of_imports() -> None:
    every = [path for path in SOURCES if path.is_relative_to(ROOT / "nodes") or path.is_relative_to(ROOT / "sf_model")]
    graph = {relative(path): {relative(file) for file in imported_files(path, only_at_start=True)} for path in every}
    assert "sf_model/backbones/base.py" in graph["sf_model/backbones/mini.py"]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from error


def test_rooms_of_the_model_that_do_not_know_each_other() -> None:
    """A scaffold is a user's, the world is the training's; and nothing of the method knows the nodes."""

    def importing(room: str, other: str) -> list[tuple[str, object]]:
        files = [path for path in SOURCES if path.is_relative_to(ROOT / room)]
        assert files
        return offenders(
            files, lambda path: [file for file in imported_files(path) if file.is_relative_to(ROOT / other)]
        )

    assert importing("sf_model", "nodes") == []
    assert importing("sf_model/scaffold", "sf_model/world") == []
    assert importing("sf_model/world", "sf_model/scaffold") == []
