"""The page of a run, and what it says of files that are damaged."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from snnx.analysis import write_pictures, write_report
from snnx.analysis.rundata import read_run
from tests.small_runs import (
    ROW,
    TINY,
    run_dir,
    session_of,
    some_digits,
)
from tests.small_runs import drawn as drawn


def test_what_cannot_be_read_is_named_on_the_page(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('[1]\n\n{"epoch": 2, "lo')
    (folder / "result.json").write_text("{")
    (folder / "config.toml").write_bytes(b"\xff")
    (folder / "plots").mkdir()
    (folder / "plots" / "data.npz").write_bytes(b"PK\x03\x04 cut off")
    run = read_run(folder)
    assert len(run.rows) == 1
    page = write_report(folder).read_text()
    for part in (
        "2 lines could not be read (2, 4)",
        "result.json is not JSON",
        "config.toml could",
    ):
        assert part in page
    assert "data.npz could not be read" in page


def test_arrays_that_do_not_fit_are_left_out(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(drawn, folder)
    path = folder / "plots" / "data.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays |= {
        "rate": np.zeros(7),
        "logits": np.zeros((3, 9, 10)),
        "raster.0": np.zeros((3, 3, 4)),
        "step_macs": np.array(["many"]),
        "evil": np.zeros(1),
    }
    np.savez(path, **arrays)
    run = read_run(folder)
    assert "evil, logits, raster.0, rate, step_macs do not fit" in run.notes[0]
    assert write_report(folder).is_file()


def test_a_file_of_python_objects_is_not_opened(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run")
    (folder / "plots").mkdir()
    np.savez(folder / "plots" / "data.npz", layers=np.array([{}], object))
    run = read_run(folder)
    assert not run.arrays
    assert "allow_pickle" in run.notes[0]


class Links(HTMLParser):
    """Collects tags and every attribute that could reach outside of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "srcset", "data"):
                self.links.append(value or "")


def test_the_page_needs_no_network_no_script_and_no_other_file(drawn: Path) -> None:
    page = (drawn / "report.html").read_text()
    seen = Links()
    seen.feed(page)
    assert {"svg", "table", "figure", "style"} <= seen.tags
    assert not {"script", "link", "iframe", "object", "embed", "base"} & seen.tags
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in seen.links)
    assert all(u.startswith("#") for u in re.findall(r"url\(([^)]*)\)", page))
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert len(seen.ids) == len(set(seen.ids))
    used = {link[1:] for link in seen.links if link.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert used <= set(seen.ids)


def test_text_from_files_is_escaped(tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>'
    rows = [{**ROW, "dials": {bad: 1.0}}]
    folder = run_dir(
        tmp_path / "a<b>&run",
        rows,
        result={"backend": bad, "device": bad, "seed": bad},
        env={"os": bad, bad: 1, "command": ["/usr/bin/snnx", "train", bad], "before": bad},
    )
    (folder / "config.toml").write_text(f"name = '{bad}'")
    (folder / "x<i>.txt").write_text("")
    write_pictures(folder, session_of(TINY), some_digits(bad), {})
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert "<i>" not in page
    assert "<h1>a&lt;b&gt;&amp;run</h1>" in page
    assert page.count("&lt;script&gt;") >= 6


def test_the_page_lists_no_half_written_file(drawn: Path) -> None:
    assert sorted(p.name for p in drawn.iterdir()) == ["metrics.jsonl", "plots", "report.html"]
    assert not list(drawn.rglob("*.part"))


def test_the_page_shows_the_numbers_of_the_run(tmp_path: Path) -> None:
    folder = run_dir(
        tmp_path / "run",
        result={"test_accuracy": 0.9876, "T": 3, "seed": 5, "backend": "numpy", "seconds": 61},
        env={
            "command": ["/opt/bin/snnx", "train", "--resume", "run"],
            "before": [{"command": ["/x/__main__.py", "train", "digits", "model.x=a b"]}],
        },
    )
    write_pictures(folder, session_of(TINY), some_digits(), {})
    page = (folder / "report.html").read_text()
    for part in ("98.76 %", "61 s", "real", "8 training, 24 test", "Conv2d", "690", "4 x 4 x 4"):
        assert part in page, part
    assert "python -m snnx train digits &#x27;model.x=a b&#x27;\nsnnx train --resume run" in page


def test_a_run_that_failed_says_so(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run")
    assert "has no result yet" in write_report(folder).read_text()
    (folder / "FAILED").write_text("6\n")
    assert "did not end well" in write_report(folder).read_text()
