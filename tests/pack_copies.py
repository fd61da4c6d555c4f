"""Copies of the pack as users get it: a clone, and the archive that comfy-cli makes for the registry."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.host_process import OFFLINE

ARCHIVE = "node.zip"
# Whatever would use the network fails at once: nothing answers on port 9.
_NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder`; returns what it printed."""
    # Its own identity and no user settings: hooks or line-ending rules of this machine would change the copy.
    env = dict(os.environ, GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.invalid", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
    return result.stdout


def make_checkout(repository: Path, target: Path) -> Path:
    """A git repository of one commit at `target` with what the next commit of `repository` could hold.

    That is every tracked file as it stands, and new files that git does not ignore.
    """
    for name in git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        source = repository / name
        if name and source.is_file():
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    git(target, "init", "--quiet")
    git(target, "add", "--all")
    git(target, "commit", "--quiet", "--message", "as it stands")
    return target


def comfy_cli(checkout: Path, home: Path, *arguments: str) -> str:
    """Run comfy-cli in `checkout`, without network and with its settings in `home`; returns what it printed."""
    env = dict(os.environ, PYTHONUTF8="1", HOME=str(home), USERPROFILE=str(home), LOCALAPPDATA=str(home), **OFFLINE)
    env |= _NO_NETWORK | {"XDG_CONFIG_HOME": str(home), "COMFY_CACHE_DIR": str(home / "cache")}
    command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", *arguments]
    result = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, encoding="utf-8")
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return output


def local_targets(markdown: str) -> list[str]:
    """The files that a Markdown text links to or shows, as it names them, without their anchors."""
    named = re.findall(r"\]\(([^)\s]+)\)", markdown) + re.findall(r"\b(?:src|href)=\"([^\"]+)\"", markdown)
    return [path for path, _, _ in (target.partition("#") for target in named) if path and "://" not in path]


def declared_nodes(pack: Path) -> set[str]:
    """The ids of the nodes in nodes/__init__.py's list, read from the source: a class is called as its id."""
    tree = ast.parse((pack / "nodes" / "__init__.py").read_text(encoding="utf-8"))
    lists = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == "NODES"]
    (nodes,) = lists
    assert isinstance(nodes, ast.List)
    return {element.id for element in nodes.elts}
