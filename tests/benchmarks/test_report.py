"""The report of a real run over people who are only patterns: what is on the page, and what is not."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.leaderboard import build_boards
from benchmarks.methods import Copy, Motion, Person, Setup
from benchmarks.metrics import METRICS
from benchmarks.report import write_report
from benchmarks.results import read_rows
from benchmarks.runner import Run, Settings, run_all
from iper_toolkit.body import BodyParams, load_body
from iper_toolkit.protocols import write_protocol

SIZE, NUM_FRAMES = 32, 9
EVIL = "<b>&'人"


@dataclass
class Pattern:
    """A clip: a square that wanders over a gradient, on its own mask."""

    id: str
    subject: str
    body_id: str
    num_frames: int = NUM_FRAMES
    mask_source: str = "set"

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.ones(self.num_frames, bool)

    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        column = np.linspace(40, 200, size)[None, :, None]
        plate = np.repeat(np.repeat(column, size, 0), 3, 2).astype(np.uint8)
        shade = 37 * sum(map(ord, self.id)) % 200
        masks = self.masks(indices, size)[..., None] > 0
        return np.where(masks, np.uint8([shade, 255 - shade, 90]), plate)

    def masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        masks = np.zeros((len(indices), size, size), np.uint8)
        for mask, index in zip(masks, indices, strict=True):
            mask[8:24, 4 + index : 14 + index] = 255
        return masks

    appearance_masks = masks

    def params(self, indices: Sequence[int] | None = None) -> BodyParams:
        count = self.num_frames if indices is None else len(indices)
        return BodyParams.from_array(self.body_id, torch.zeros(count, 85))

    def background(self, size: int) -> NDArray[np.uint8]:
        return np.zeros((size, size, 3), np.uint8)


@dataclass
class Patterns:
    clips: dict[str, Pattern]
    synthetic: bool = True
    licence: str = "CC0-1.0"
    name: str = f"patterns {EVIL}"
    digest: str = "d" * 64

    @property
    def failures(self) -> dict[str, str]:
        return {"lost/1/1": f"unreadable {EVIL}"}

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(sorted(self.clips))

    def clip(self, clip_id: str) -> Pattern:
        return self.clips[clip_id]


class Grey:
    """Draws grey, and gives up on one clip."""

    name, version, weights = "grey", "3", "f" * 64

    def __init__(self, gives_up_on: str = "") -> None:
        self.gives_up_on = gives_up_on

    def setup(self, setup: Setup) -> None:
        self.size = setup.size

    def personalize(self, person: Person) -> None:
        if person.clip == self.gives_up_on:
            raise RuntimeError(f"no idea of {EVIL}")

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        for k in range(len(motion)):
            yield np.full((self.size, self.size, 3), 100 + k, np.uint8)


def make_run(out: Path, people: Sequence[str], **more: Any) -> Path:
    """A finished run of `copy` and `grey` over one clip a person, source frame 2; returns its folder."""
    body = load_body("open")
    names = [f"{person}/1/1" for person in people]
    dataset = Patterns({n: Pattern(n, n.split("/")[0], body.id) for n in names})
    dataset.synthetic = more.pop("synthetic", True)
    protocol = write_protocol(
        out.parent / f"{out.name}-protocol",
        id="patterns-v1",
        dataset=dataset.name,
        title="Wandering squares",
        sources=[(name, 1, 0, 2) for name in [*names, "lost/1/1"]],
        self_imitation=[(name, 1, NUM_FRAMES - 1) for name in [*names, "lost/1/1"]],
        cross_imitation=[(names[0], names[1], 0, 4, 0, 4)],
    )
    methods = [Copy(), Grey(more.pop("gives_up_on", ""))]
    keep = more.pop("keep", "some")
    settings = Settings(size=SIZE, **more)
    run_all(Run(dataset, protocol, methods, settings, out, body=body, keep=keep))
    return out


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people = [f"00{k}" for k in range(1, 7)] + [f"007 {EVIL}"]
    out = tmp_path_factory.mktemp("runs") / "patterns"
    return make_run(out, people, gives_up_on="003/1/1", kind="all")


@pytest.fixture(scope="module")
def html(run_folder: Path) -> str:
    return write_report(run_folder).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every tag with its attributes, the tags left open, and all text outside style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):  # these two never close
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def test_page_lies_in_the_run_and_is_whole(run_folder: Path, html: str) -> None:
    assert (run_folder / "report" / "index.html").is_file()
    assert [path.name for path in (run_folder / "report").iterdir()] == ["index.html"]
    assert html.startswith("<!DOCTYPE html>")
    assert html.rstrip().endswith("</html>")
    assert Tags(html).open == []


def test_page_fetches_nothing(html: str) -> None:
    for tag, attributes in Tags(html).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name)
            if value is not None:
                assert value.startswith(("data:image/jpeg;base64,", "#")), (
                    f"<{tag} {name}={value[:60]}>"
                )
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert "@import" not in html
    assert "url(" not in html
    assert "http://" not in html
    assert "https://" not in html


def test_anchors_lead_somewhere_and_ids_are_unique(html: str) -> None:
    tags = Tags(html).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags:
        for name in ("href", "aria-labelledby"):
            value = attributes.get(name) or ""
            if value and not value.startswith("data:"):
                assert value.removeprefix("#") in ids


def test_every_method_metric_and_number_is_there(run_folder: Path, html: str) -> None:
    text = Tags(html).text
    for name in Settings().metrics:
        assert name in text
        assert METRICS[name].definition in text
    (board,) = build_boards(read_rows(run_folder / "rows.parquet"))
    for entry in board.entries:
        assert entry.method in text
        for column, cell in zip(board.columns, entry.cells, strict=True):
            assert column.format(cell.mean.mean) in text
            low, high = column.format(cell.mean.low), column.format(cell.mean.high)
            assert f"[{low}, {high}]" in text


def test_official_forms_stand_apart_from_the_standard_metrics(html: str) -> None:
    aside = html.index('<div class="aside">')
    assert html.index("SSIM (person)") < aside < html.index("<code>ssim_official</code>")
    assert "never compare across" in html


def test_names_are_escaped(html: str) -> None:
    assert EVIL not in html
    assert "<b>&" not in html
    assert EVIL in Tags(html).text


def test_pictures_have_texts_and_sizes(html: str) -> None:
    pictures = [attributes for tag, attributes in Tags(html).tags if tag == "img"]
    assert len(pictures) >= 7 * 3 * 3
    for attributes in pictures:
        assert attributes["alt"]
        assert attributes["width"] == attributes["height"] == str(SIZE)


def test_best_median_and_worst_frame_are_those_of_the_rows(run_folder: Path, html: str) -> None:
    """Of person 001, whose pictures are all kept: at most 8 frames."""
    rows = read_rows(run_folder / "rows.parquet").to_pandas()
    (board,) = build_boards(read_rows(run_folder / "rows.parquet"))
    leading = board.entries[0].method
    own = rows[(rows.subject == "001") & (rows.metric == "ssim_person") & (rows.method == leading)]
    own = own.sort_values(["value", "frame"], ascending=[True, True])
    gallery = html[html.index('aria-label="Person 001"') :]
    gallery = gallery[: gallery.index("</table>")]
    shown = re.findall(r"<b>(Best|Median|Worst)</b>frame (\d+) of 001/1/1", gallery)
    assert [label for label, _ in shown] == ["Best", "Median", "Worst"]
    values = own.set_index("frame")["value"]
    by_label = {label: values[int(frame)] for label, frame in shown}
    assert by_label["Best"] == values.max()
    assert by_label["Worst"] == values.min()
    assert by_label["Median"] == values.sort_values().iloc[(len(values) - 1) // 2]
    for value in by_label.values():
        assert f"SSIM (person) {value:.4f}" in gallery


def test_score_below_a_picture_is_of_that_picture(run_folder: Path, html: str) -> None:
    """The case begins at frame 1, so that picture and frame numbers differ by one."""
    for label, frame in re.findall(r"<b>(\w+)</b>frame (\d+) of 001/1/1", html):
        assert f"self/001_1_1, picture {int(frame) - 1}" in html, label


def test_failures_are_listed_and_counted(html: str) -> None:
    text = Tags(html).text
    assert f"RuntimeError: no idea of {EVIL}" in text
    assert "self/003_1_1" in text
    assert "1 of 7" in text
    assert f"clip lost/1/1: unreadable {EVIL}" in text
    assert "Clips are missing." in text


def test_verdicts_are_in_words(run_folder: Path, html: str) -> None:
    (board,) = build_boards(read_rows(run_folder / "rows.parquet"))
    (pair,) = [one for one in board.pairs if {one.first, one.second} == {"grey", "copy"}]
    k = [column.metric for column in board.columns].index("ssim")
    difference = pair.differences[k]
    expected = (
        f"{pair.first} and {pair.second} are not told apart"
        if difference.low <= 0 <= difference.high
        else f"{pair.first} is {'better' if difference.low > 0 else 'worse'} than {pair.second} by"
    )
    assert expected in Tags(html).text


def test_of_few_methods_every_difference_stands_open(html: str) -> None:
    assert "<details>" not in html
    assert "Differences of every two methods, paired by person." in html


def test_synthetic_people_are_called_so(html: str) -> None:
    assert "Synthetic." in html
    assert "not comparable with published numbers" in html


def test_published_numbers_are_marked_as_such(html: str) -> None:
    section = html[html.index('<h2 id="published"') :]
    assert "not verified" in section
    assert "never ranked" in section
    assert "README of CompVis/ipoke" in section


def test_cross_imitation_has_pictures_and_no_scores(html: str) -> None:
    section = html[html.index('id="driven"') : html.index('id="speed"')]
    assert "cross/001_1_1-by-002_1_1" in section
    assert section.count("<img") == 3 * 4
    assert "SSIM" not in section


def test_provenance_names_versions_digests_and_seed(run_folder: Path, html: str) -> None:
    run = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
    text = Tags(html).text
    assert run["protocol"]["digest"] in text
    assert run["dataset"]["digest"] in text
    assert run["machine"]["processor"] in text
    assert "f" * 64 in text  # weights of the method
    assert f"torch {run['versions']['torch']}" in text
    assert run["started"][:10] in text
    assert "The pictures: CC0-1.0." in text


def test_same_run_same_bytes(run_folder: Path, html: str) -> None:
    assert write_report(run_folder).read_bytes() == html.encode("utf-8")


def test_few_people_restrictions_and_dropped_pictures(tmp_path: Path) -> None:
    people = ["001", "002"]
    run_folder = make_run(
        tmp_path / "few", people, synthetic=False, max_frames=4, keep="none", kind="self"
    )
    text = Tags(write_report(run_folder).read_text(encoding="utf-8")).text
    for words in (
        "Few people.",
        "With 2 people there is no interval and no rank",
        "At most 4 frames a case",
        "The run kept no pictures of scored frames.",
        "The protocol patterns-v1 was made for these clips",
        "too few people to tell",
    ):
        assert words in text
    assert "Synthetic." not in text
    assert "nan" not in re.findall(r"\w+", text.lower())


@pytest.mark.parametrize("targets", ["official", "unseen"])
def test_shipped_protocols_are_not_comparable_with_published_numbers_either(
    targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder = make_run(tmp_path / "run", ["001", "002"], synthetic=False, targets=targets)
    monkeypatch.setattr("benchmarks.report.shipped_protocols", lambda: ("patterns-v1",))
    text = Tags(write_report(run_folder).read_text(encoding="utf-8")).text
    assert "Not comparable with published numbers." in text
    assert "batches of 16" in text
    assert ("and source frames are not scored" in text) == (targets == "unseen")


def test_clips_that_could_not_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Pattern.frames

    def broken(self: Pattern, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        if self.id == "002/1/1":
            raise OSError("cut short")
        return whole(self, indices, size)

    monkeypatch.setattr(Pattern, "frames", broken)
    run_folder = make_run(tmp_path / "run", ["001", "002", "003"])
    text = Tags(write_report(run_folder).read_text(encoding="utf-8")).text
    assert "Clips could not be read." in text
    assert "OSError: cut short" in text
    assert "Not finished." not in text


def test_run_without_any_score_shows_pictures_only(tmp_path: Path) -> None:
    run_folder = make_run(tmp_path / "cross", ["001", "002"], kind="cross")
    html = write_report(run_folder).read_text(encoding="utf-8")
    assert "Pictures only" in html
    assert html.count("<img") == 3 * 4


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()


def test_a_run_that_has_only_begun(run_folder: Path, tmp_path: Path) -> None:
    settings = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))["settings"]
    begun = {"schema": 1, "settings": settings, "complete": False}
    (tmp_path / "run.json").write_text(json.dumps(begun), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="not finished"):
        write_report(tmp_path)


def test_no_place_of_this_machine_is_on_the_page(run_folder: Path, tmp_path: Path) -> None:
    home = Path.home() / "my data"
    run = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
    run["command"] = f"lwgan-bench run --root '{home}/iPER' --method ours=folder:/home/jane/out/x"
    run["failures"][0]["error"] = f"OSError: {Path.home()}/iPER/clips/a.mp4: \x1b[31mgone\u202e"
    run["missing_cases"] = {"self/lost": f"{run_folder}/pictures/a.png is no file"}
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    text = Tags(write_report(folder).read_text(encoding="utf-8")).text
    for told in (
        str(Path.home()) + "/",
        "jane",
        str(run_folder.parent),
        "\x1b",
        "\u202e",
    ):
        assert told not in text, told
    assert "…/clips/a.mp4: \\x1b[31mgone" in text
    assert "--method ours=folder:~/out/x" in text


def test_hidden_labels_scroll_with_their_table_and_words_are_not_broken(html: str) -> None:
    """A label that is placed absolutely widens the page unless the scrolling box around it is its frame."""
    style = html[html.index("<style>") : html.index("</style>")]
    style = re.sub(r"/\*.*?\*/", "", style)
    rules: dict[str, str] = {}
    for selector, body in re.findall(r"([^{}]+){([^{}]*)}", style[: style.index("@media print")]):
        for name in selector.split(","):
            rules[name.strip()] = rules.get(name.strip(), "") + body
    assert "position: absolute" in rules[".hidden"]
    assert "position: relative" in rules[".scroll"]
    assert "overflow-x: auto" in rules[".scroll"]
    for cell in ("td", "th", "td code"):
        assert "anywhere" not in rules[cell]  # it would make a column as narrow as a letter
    outside = re.sub(r'<div class="scroll".*?</div>', "", html, flags=re.S)
    assert "<table" not in outside
    assert 'class="hidden"' not in outside


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MEASURE = """<script>addEventListener("load", () => {
  const broken = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    if (node.parentElement.closest("script, style, svg, code")) continue;
    for (const found of node.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
      if (found[0].length > 40) continue; // a digest
      const range = document.createRange();
      range.setStart(node, found.index); range.setEnd(node, found.index + found[0].length);
      if (new Set([...range.getClientRects()].map(one => Math.round(one.top))).size > 1) broken.add(found[0]);
    }
  }
  parent.postMessage([innerWidth, document.documentElement.scrollWidth, [...broken].join(" ")], "*");
});</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_page_fits_the_screen_and_breaks_no_word(width: int, html: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html.replace("</body>", MEASURE), encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        "<script>addEventListener('message', e => document.body.dataset.found = JSON.stringify(e.data))</script>"
        f'<body><iframe src="page.html" style="width:{width}px;height:800px;border:0"></iframe></body>'
    )
    address = (tmp_path / "frame.html").as_uri()
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, "--window-size=1400,900", "--virtual-time-budget=5000", address],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (found,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    inner, scroll, broken = json.loads(found.replace("&quot;", '"').replace("&amp;", "&"))
    assert inner == width
    assert scroll <= width
    assert broken == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: [run], "it holds a list"),
        (lambda run: run | {"methods": []}, "methods is a list"),
        (lambda run: run | {"dataset": {"name": "a"}}, r"dataset\.digest is not there"),
        (lambda run: run | {"methods": {"copy": None}}, r"methods\.copy is a NoneType"),
        (lambda run: {k: v for k, v in run.items() if k != "protocol"}, "protocol is not there"),
    ],
)
def test_run_json_of_another_shape_is_named(
    change: Any, said: str, run_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(change(run)), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"run\.json.*{said}"):
        write_report(folder)


@pytest.mark.parametrize("record", ["[]", "{}", '{"case": 3}', "{"])
def test_a_record_of_another_shape_is_named(record: str, run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (path,) = folder.glob("cases/copy/self/001_1_1.json")
    path.write_text(record)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        write_report(folder)
