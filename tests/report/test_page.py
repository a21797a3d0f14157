"""Pictures, and the page of runs in every state of completion."""

import base64
import csv
import html.parser
import io
import json
import re

import matplotlib
import pytest
from PIL import Image

from seg_jax.errors import InputError
from seg_jax.export.overlay import class_colour
from seg_jax.report.page import write_report

NAMES = ("dice", "iou", "accuracy", "sensitivity", "specificity", "precision")
CONFIG = {
    "class": "seg_jax.run.config.Experiment",
    "fields": {
        "name": "a <b>bold</b> run",
        "model": {"class": "seg_jax.models.unet.UNet", "fields": {"features": [16, 32]}},
        "data": {"class": "seg_jax.datasets.nevi.Nevi", "fields": {"folder": None}},
        "losses": [{"class": "seg_jax.losses.Dice", "fields": {"smooth": 1.5}}],
        "size": [32, 48],
        "epochs": 8,
    },
}
ENVIRONMENT = {
    "python": "3.11.9",
    "git commit": None,
    "command": "python experiments/nevi.py --name 'a & b'",
    "seconds": 4000.0,
}


def training(step):
    scalars = {"loss": 1 / step, "learning_rate": 1e-3, "grad_norm": 1.0, "data_wait": 0.01}
    return {"step": step, "epoch": step / 10, "images_per_second": 12.5, **scalars}


def validation(step):
    return {"step": step, "epoch": step / 10, "val_dice": 0.8, "val_iou": 0.7, "val_loss": 0.3}


LINES = [training(10), training(20), validation(20), training(30)]


def scores_of(base, spread=0.01):
    scores = {}
    for place, name in enumerate(NAMES):
        value = base + place / 1000
        scores |= {name: value, f"{name}_ci95": [value - spread, value + spread]}
    return scores


def write_run(folder, dices=(), scores=None, lines=(), tail=""):
    """Lays out a workdir; an image a Dice, and the scores where there are any."""
    (folder / "overlays").mkdir(parents=True)
    (folder / "predictions").mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + tail)
    if scores is not None:
        (folder / "scores.json").write_text(json.dumps(scores))
    if not dices:
        return folder
    with (folder / "per_image.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", *NAMES, "own_dice", "hd95"])
        for place, dice in enumerate(dices):
            rows.writerow([f"im{place:02}", dice, *[0.5] * (len(NAMES) - 1), 0.25, 7.25])
            picture = Image.new("RGB", (48, 32), (place, 100, 100))
            picture.save(folder / f"overlays/im{place:02}.jpg")
            picture.convert("L").save(folder / f"predictions/im{place:02}.png")
    return folder


class Page(html.parser.HTMLParser):
    """Parses strictly: every element is closed in the order it was opened."""

    VOIDS = ("meta", "img", "link", "br", "hr")

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.open, self.elements, self.words = [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOIDS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title", "text"):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def pictured(page, title, end="<h"):
    """The ids under the pictures of one group, in order."""
    part = page.source.split(f"<h3>{title}</h3>")[1].split(end)[0]
    return re.findall(r"<figcaption>(\S+)", part)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    # Twenty images; the Dice of image k is 0.5 + 0.02 * (7k mod 20): no order by id.
    dices = [0.5 + 0.02 * (7 * k % 20) for k in range(20)]
    own = {**scores_of(0.712, 0.02), "hd95": 12.25, "hd95_ci95": [8.5, 18.25], "n": 20}
    scores = {**scores_of(0.871), "own_size": own, "n": 20, "parameters": 974417}
    return write_run(tmp_path_factory.mktemp("run") / "w", dices, {**scores, "part": "test"}, LINES)


@pytest.fixture(scope="module")
def page(workdir):
    assert write_report(workdir) == workdir / "report.html"
    return Page(workdir / "report.html")


class TestPage:
    def test_says_what_was_scored(self, page):
        assert "0.871 Dice 95 % interval 0.861–0.881 20 test images" in page.text
        assert "UNet on Nevi · 974,417 parameters · finished in 1 h 7 min" in page.text

    def test_has_every_score_and_interval(self, page):
        table = page.text.split("Scores at 32 × 48 at own size")[1].split("Learning curves")[0]
        for base, spread in ((0.871, 0.01), (0.712, 0.02)):
            for place in range(len(NAMES)):
                value = base + place / 1000
                assert f"{value:.3f} {value - spread:.3f}–{value + spread:.3f}" in table
        assert "HD95 (px) 12.25 8.50–18.25" in table
        assert "Specificity 0.875 0.865–0.885 0.716 0.696–0.736" in table

    def test_shows_worst_median_and_best(self, page):
        order = sorted(range(20), key=lambda k: 7 * k % 20)
        names = [f"im{k:02}" for k in order]
        assert pictured(page, "Worst") == names[:6]
        assert pictured(page, "Around the median") == names[7:13]
        assert pictured(page, "Best", "</section") == names[:13:-1]

    def test_embeds_its_pictures(self, page, workdir):
        pictures = page.all("img")
        assert len(pictures) == 18
        for picture in pictures:
            head, data = picture["src"].split(",")
            assert head == "data:image/jpeg;base64"
            name = picture["alt"].split()[0]
            assert base64.b64decode(data) == (workdir / f"overlays/{name}.jpg").read_bytes()
            assert Image.open(io.BytesIO(base64.b64decode(data))).size == (48, 32)

    def test_draws_the_curves_with_words_for_them(self, page):
        drawings = {drawing["aria-label"].split(":")[0] for drawing in page.all("svg")}
        assert {"Loss", "Validation score", "Learning rate", "Images per second"} < drawings
        loss = next(d["aria-label"] for d in page.all("svg") if d["aria-label"].startswith("Loss"))
        assert loss == ("Loss: training from 0.1 to 0.0333, validation from 0.3 to 0.3 over epochs")

    def test_draws_a_dot_for_every_image(self, page):
        figure = page.source.split('<figure class="dots">')[1].split("</figure>")[0]
        dots = re.findall(r'<use \S+ x="([\d.]+)" y="([\d.]+)" style="fill: var', figure)
        assert len(set(dots)) == 20
        assert "Median 0.690 (the line)" in page.text
        assert "lowest 0.500 (im00)" in page.text

    def test_needs_nothing_from_elsewhere(self, page, workdir):
        assert not page.all("script")
        assert not page.all("link")
        assert not re.search(r"https?:|src=\"(?!data:)|url\((?!#)|@import", page.source)
        links = [link["href"] for link in page.all("a")]
        anchors = {section["id"] for section in page.all("section")}
        files = [link for link in links if not link.startswith("#")]
        assert {link[1:] for link in links if link.startswith("#")} == anchors
        assert len(files) == 40
        assert all((workdir / link).is_file() for link in files)

    def test_lists_every_image(self, page):
        table = page.text.split("All images")[-1].split("Configuration")[0]
        assert re.findall(r"im\d\d", table) == [f"im{k:02}" for k in range(20)]
        assert "im03 mask picture 0.520 0.500 0.500 0.500 0.500 0.500 0.250 7.25" in table

    def test_shows_the_configuration_by_short_names(self, page):
        assert "model UNet features 16, 32 data Nevi folder none" in page.text
        assert "losses 1 Dice smooth 1.5 size 32, 48 epochs 8" in page.text
        assert "seg_jax.models" not in page.source

    def test_gives_the_command(self, page):
        assert "python experiments/nevi.py --name 'a & b'" in page.text
        assert "git commit none" in page.text

    def test_escapes_what_it_shows(self, page):
        assert "<b>" not in page.source
        assert "a &lt;b&gt;bold&lt;/b&gt; run" in page.source

    def test_ids_are_used_once(self, page):
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))

    def test_is_the_same_when_written_again(self, page, workdir):
        before = dict(matplotlib.rcParams)
        write_report(workdir)
        assert (workdir / "report.html").read_text("utf-8") == page.source
        assert dict(matplotlib.rcParams) == before


class TestUnfinished:
    def test_no_scores_yet(self, tmp_path):
        page = Page(write_report(write_run(tmp_path / "w", lines=LINES)))
        assert "UNet on Nevi · not finished, last heard of at step 30 (epoch 3 of 8)" in page.text
        assert "The run is not finished: there are no scores yet." in page.text
        assert any(d["aria-label"].startswith("Loss") for d in page.all("svg"))

    def test_only_a_configuration(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        page = Page(write_report(tmp_path))
        assert "Nothing has been logged yet." in page.text
        assert "There is no environment.json." in page.text
        assert not page.all("svg")

    def test_no_validation(self, tmp_path):
        lines = [{"step": 10, "loss": 0.5}]
        running = Page(write_report(write_run(tmp_path / "running", lines=lines)))
        assert "There has been no validation yet." in running.text
        finished = write_run(tmp_path / "done", [0.9], {**scores_of(0.9), "n": 1}, lines)
        text = Page(write_report(finished)).text
        assert "There is no validation part in this protocol." in text

    @pytest.mark.parametrize("tail", ['{"step": 40, "lo', "{", '{"step": 40}{"step"'])
    def test_torn_last_line(self, tmp_path, tail):
        page = Page(write_report(write_run(tmp_path / "w", lines=[{"step": 30}], tail=tail)))
        assert "last heard of at step 30" in page.text

    def test_a_resumed_run_replaces_what_it_repeats(self, tmp_path):
        lines = [{"step": step, "loss": loss} for step, loss in ((10, 0.1), (20, 9.0), (20, 0.05))]
        page = Page(write_report(write_run(tmp_path / "w", lines=lines)))
        assert "Loss: training from 0.1 to 0.05 over steps" in page.source


class TestOddRuns:
    def test_one_image(self, tmp_path):
        scores = {"dice": 1.0, "dice_ci95": [None, None], "n": 1, "part": "test"}
        page = Page(write_report(write_run(tmp_path / "w", [1.0], scores)))
        assert "1.000 Dice 1 test image " in page.text
        assert len(page.all("img")) == 1
        assert pictured(page, "All, the worst first", "</section") == ["im00"]

    def test_undefined_scores(self, tmp_path):
        nan = float("nan")
        scores = {"dice": nan, "dice_ci95": [nan, nan], "iou": None, "n": 3}
        scores["own_size"] = {"hd95": float("inf")}
        lines = [{**training(10), "loss": nan, "grad_norm": float("inf")}, training(20)]
        page = Page(write_report(write_run(tmp_path / "w", [nan, 0.5, ""], scores, lines)))
        assert "– Dice 3 test images" in page.text
        assert "Dice – IoU – HD95 (px) ∞" in page.text
        assert "nan" not in page.text
        assert "Without a Dice: 2." in page.text
        assert len(page.all("img")) == 1

    def test_several_classes(self, tmp_path):
        names = ["background", *(f"class <{k}>" for k in range(1, 4))]
        per_class = {
            name: {"dice": 0.6 + k / 100, "iou": 0.4, "dice_ci95": [0.1, 0.2]}
            for k, name in enumerate(names)
        }
        scores = {**scores_of(0.6), "per_class": per_class, "n": 2, "part": "val"}
        page = Page(write_report(write_run(tmp_path / "w", [0.5, 0.7], scores)))
        assert "2 val images" in page.text
        assert "Dice IoU background 0.600 0.400 class <1> 0.610 0.400" in page.text
        legend = page.source.split('class="legend"')[1].split("</p>")[0]
        assert f"rgb{class_colour(3)}" in legend
        assert "class &lt;3&gt;" in legend
        assert "background" not in legend.replace("background:", "")

    def test_pictures_that_are_gone(self, tmp_path):
        folder = write_run(tmp_path / "w", [0.5], {**scores_of(0.5), "n": 1})
        (folder / "overlays/im00.jpg").unlink()
        page = Page(write_report(folder))
        assert "no picture im00 Dice 0.500" in page.text
        assert "predictions/im00.png" in [link["href"] for link in page.all("a")]


class TestRefuses:
    def test_missing_workdir(self, tmp_path):
        with pytest.raises(InputError, match="nowhere: no such folder; name the workdir"):
            write_report(tmp_path / "nowhere")

    def test_missing_configuration(self, tmp_path):
        with pytest.raises(InputError, match=r"config\.json is missing; name the workdir"):
            write_report(tmp_path)

    def test_broken_file(self, tmp_path):
        folder = write_run(tmp_path / "w")
        (folder / "scores.json").write_text('{"dice": ')
        with pytest.raises(InputError, match=r"scores\.json isn't valid JSON .*; restore it"):
            write_report(folder)
