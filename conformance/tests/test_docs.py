"""The documentation: its Python runs, its links lead somewhere, its reference is up to date."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SHOWN = re.compile(r"^```python\n.*?^```\n\n```text\n(.*?)^```$", re.M | re.S)
HEADING = re.compile(r"^#+ (.+?)(?: \{ #([\w.-]+) \})?$", re.M)


def name(page: Path) -> str:
    """Return the page's path from the root of the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def anchors(page: Path) -> set[str]:
    """Return the names to which a link into the page may lead."""
    found = set()
    for title, given in HEADING.findall(BLOCK.sub("", page.read_text("utf-8"))):
        plain = re.sub(r"[^\w\s-]", "", title.lower()).strip()
        found.add(given or re.sub(r"[\s-]+", "-", plain))
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name)
def test_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    code = blocks(page, "python")
    for framework in ("torch", "mlx"):
        if any(re.search(rf"\bimport {framework}\b|\"{framework}\"", text) for text in code):
            pytest.importorskip(framework)
    for number, text in enumerate(code):
        (tmp_path / f"block{number}.py").write_text(text, "utf-8")  # a traceback shows the line
    run = (
        "from pathlib import Path\nspace = {'__name__': 'page'}\n"
        f"for i in range({len(code)}):\n"
        "    p = Path(f'block{i}.py')\n"
        "    exec(compile(p.read_text('utf-8'), str(p), 'exec'), space)\n"
    )
    sources = os.pathsep.join(str(ROOT / s) for s in (".", "backends", "conformance"))
    environment = {**os.environ, "PYTHONPATH": sources, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", run],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{name(page)}:\n{done.stdout}{done.stderr}"
    for output in SHOWN.findall(page.read_text("utf-8")):  # what a page shows below a block
        assert output in done.stdout, f"{name(page)} shows:\n{output}printed:\n{done.stdout}"


def test_some_pages_hold_python() -> None:
    assert sum(len(blocks(page, "python")) for page in PAGES) > 10


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text("utf-8"))
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = target.partition("#")
        goal = (page.parent / place).resolve() if place else page
        assert goal.exists(), f"{name(page)}: {target}"
        if anchor and goal.suffix == ".md":
            assert anchor in anchors(goal), f"{name(page)}: {target}"


def test_every_page_can_be_found() -> None:
    listed = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8"))
    found, to_read = set(), [DOCS / place for place in listed]
    while to_read:
        page = to_read.pop()
        assert page.exists(), f"mkdocs.yml lists {page}"
        if page not in found:
            found.add(page)
            links = LINK.findall(BLOCK.sub("", page.read_text("utf-8")))
            goals = ((page.parent / link.partition("#")[0]).resolve() for link in links)
            to_read += [goal for goal in goals if goal.suffix == ".md"]
    results = set((DOCS / "reproduction").rglob("*.md"))  # written one by one, by their commands
    lost = set(DOCS.rglob("*.md")) - found - results
    assert not lost, f"list them in mkdocs.yml, or link them from a page: {sorted(map(name, lost))}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=name)
def test_pages_of_the_site_link_to_pages_of_the_site(page: Path) -> None:
    for target in LINK.findall(BLOCK.sub("", page.read_text("utf-8"))):
        if not target.startswith(("http", "mailto:")):
            goal = (page.parent / target.partition("#")[0]).resolve()
            assert target.startswith("#") or goal.is_relative_to(DOCS), f"{name(page)}: {target}"


def reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that writes the reference."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("make_reference")


def test_reference_is_what_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    module = reference(monkeypatch)
    for page, make in module.PAGES.items():
        written = (DOCS / "reference" / page).read_text("utf-8")
        assert written == make(), f"docs/reference/{page}: run: python docs/make_reference.py"


def test_command_of_the_reference_tells_a_stale_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = reference(monkeypatch)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "reference")
    assert module.main(["--check"]) == 1
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0
    (tmp_path / "reference" / "ops.md").write_text("old", "utf-8")
    assert module.main(["--check"]) == 1
    assert "make_reference.py" in capsys.readouterr().out


def test_recipes_in_the_documentation_are_recipes() -> None:
    from snnx.training.recipe import resolve

    found = [(page, text) for page in PAGES for text in blocks(page, "toml")]
    assert found
    for page, text in found:
        resolve([(tomllib.loads(text), name(page))])
