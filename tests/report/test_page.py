"""Pictures, and the page of runs in every state of completion."""

import base64
import csv
import html.parser
import io
import json
import os
import re
import subprocess
import sys

import matplotlib
import pytest
from PIL import Image

from seg_jax.errors import InputError
from seg_jax.export.overlay import class_colour, legend
from seg_jax.labels import Labels
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
    "scores": {"dice": ["Dice", 3], "iou": ["IoU", 3], "hd95": ["HD95 (px)", 2]},
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


def write_run(folder, dices=(), scores=None, lines=(), tail="", config=CONFIG):
    """Lays out a workdir; an image a Dice, and the scores where there are any."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + tail)
    if scores is not None:
        columns = [*NAMES, "own_dice", "hd95"]
        rows = [[dice, *[0.5] * (len(NAMES) - 1), 0.25, 7.25] for dice in dices]
        write_evaluation(folder / "evaluations" / scores.get("part", "test"), scores, columns, rows)
    return folder


def write_evaluation(folder, scores, columns, rows):
    """Lays out an evaluation of images im00, im01 …, with a row of per_image.csv for each."""
    (folder / "overlays").mkdir(parents=True)
    (folder / "predictions").mkdir()
    (folder / "scores.json").write_text(json.dumps(scores))
    with (folder / "per_image.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *columns])
        for place, row in enumerate(rows):
            writer.writerow([f"im{place:02}", *row])
            picture = Image.new("RGB", (48, 32), (place, 100, 100))
            picture.save(folder / f"overlays/im{place:02}.jpg")
            picture.convert("L").save(folder / f"predictions/im{place:02}.png")


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
        pictures, folder = page.all("img"), workdir / "evaluations" / "test"
        assert len(pictures) == 18
        for picture in pictures:
            head, data = picture["src"].split(",")
            assert head == "data:image/jpeg;base64"
            name = picture["alt"].split()[0]
            assert base64.b64decode(data) == (folder / f"overlays/{name}.jpg").read_bytes()
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

    def test_is_written_whole(self, page, workdir, monkeypatch):
        def full(_):
            raise OSError("no space left")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            write_report(workdir)
        assert (workdir / "report.html").read_text("utf-8") == page.source


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
        scores["legend"] = legend(Labels(tuple(names)), ("label",))._asdict()
        page = Page(write_report(write_run(tmp_path / "w", [0.5, 0.7], scores)))
        assert "2 val images" in page.text
        assert "Dice IoU background 0.600 0.400 class <1> 0.610 0.400" in page.text
        key = page.source.split('class="legend"')[1].split("</p>")[0]
        assert f"rgb{class_colour(3)}" in key
        assert "class &lt;3&gt;" in key
        assert "background" not in key.replace("background:", "")
        assert "Left: predicted. Right: true." in page.text
        classes = page.source.split('id="classes"')[1].split("</section>")[0]
        assert f"rgb{class_colour(3)}" in classes
        assert classes.count('class="key"') == 3
        assert page.source.count('class="pictures pairs"') == 1

    def test_pictures_that_are_gone(self, tmp_path):
        folder = write_run(tmp_path / "w", [0.5], {**scores_of(0.5), "n": 1})
        (folder / "evaluations/test/overlays/im00.jpg").unlink()
        page = Page(write_report(folder))
        assert "no picture im00 Dice 0.500" in page.text
        hrefs = [link["href"] for link in page.all("a")]
        assert "evaluations/test/predictions/im00.png" in hrefs


class TestEvaluations:
    """Several evaluations of one run, and the groups of one."""

    @staticmethod
    def add(folder, name, dice, n, **more):
        scores = {"part": "test", "n": n, "best": "dice", "dice": dice, **more}
        scores["dice_ci95"] = [dice - 0.1, dice + 0.1]
        write_evaluation(folder / "evaluations" / name, scores, ["dice"], [[dice]])

    def test_test_is_shown_and_the_others_are_listed(self, tmp_path):
        folder = write_run(tmp_path / "w")
        self.add(folder, "a & b", 0.7, 4, title="test, <b>scales</b> 1 and 2")
        self.add(folder, "test", 0.5, 5)
        self.add(folder, "val", 0.9, 7)
        (folder / "evaluations" / "stopped").mkdir()
        (folder / "evaluations" / "notes.txt").write_text("mine")
        page = Page(write_report(folder))
        assert "0.500 Dice 95 % interval 0.400–0.600 5 test images" in page.text
        listed = page.text.split("Other evaluations")[-1].split("Learning curves")[0]
        assert listed.split("Images Dice ")[1].strip() == (
            "test, <b>scales</b> 1 and 2 4 0.700 0.600–0.800 val 7 0.900 0.800–1.000"
        )
        hrefs = [link["href"] for link in page.all("a") if link["href"].startswith("eval")]
        assert hrefs[:2] == ["evaluations/a%20%26%20b/", "evaluations/val/"]
        assert {href.split("/")[1] for href in hrefs[2:]} == {"test"}
        assert "<b>" not in page.source

    def test_without_test_the_first_by_name_is_shown(self, tmp_path):
        folder = write_run(tmp_path / "w")
        self.add(folder, "val", 0.9, 7, part="val")
        self.add(folder, "test-scales-1-2", 0.7, 4, scales=[1, 2])
        page = Page(write_report(folder))
        assert "4 test images (seen at 1 and 2 times the training size)" in page.text
        assert "val 7 0.900" in page.text

    def test_one_evaluation_has_no_others(self, page):
        assert "Other evaluations" not in page.text
        assert "Groups" not in page.text

    def test_old_runs_have_none(self, tmp_path):
        folder = write_run(tmp_path / "w", lines=LINES)
        (folder / "scores.json").write_text(json.dumps(scores_of(0.5)))
        assert "there are no scores yet" in Page(write_report(folder)).text

    def test_tiles_are_seen_at_own_size(self, tmp_path):
        folder = write_run(tmp_path / "w")
        self.add(folder, "test", 0.5, 2, tile=[64, 96], scales=[1.5])
        page = Page(write_report(folder))
        assert "2 test images (seen in tiles of 64 × 96)" in page.text
        assert "at own size Dice 0.500 0.400–0.600" in page.text
        assert "at 32 × 48" not in page.text

    def test_groups_have_a_table_and_a_column(self, tmp_path):
        folder = write_run(tmp_path / "w")
        few = dict.fromkeys(NAMES, 0.25)
        by_group = {
            "common <nevus>": {"n": 2, **few, "iou": 0.75, "iou_ci95": [0.5, 1.0]},
            "melanoma": {"n": 1, **few, "iou": float("nan")},
        }
        scores = {"n": 3, "best": "iou", "by_group": by_group} | dict.fromkeys(NAMES, 0.5)
        columns = ["group", "iou", "own_iou"]
        rows = [["common <nevus>", 0.5, 0.25], ["melanoma", 0.75, 1], ["", 1, 0]]
        write_evaluation(folder / "evaluations" / "test", scores, columns, rows)
        page = Page(write_report(folder))
        table = page.text.split("Groups")[-1].split("Learning curves")[0]
        assert table.strip() == (
            "Images IoU Dice Accuracy Sensitivity "
            "common <nevus> 2 0.750 0.500–1.000 0.250 0.250 0.250 melanoma 1 – 0.250 0.250 0.250"
        )
        table = page.text.split("All images")[-1].split("Configuration")[0]
        assert "Group IoU IoU im00 common <nevus> mask picture 0.500 0.250" in table
        assert "im02 mask picture 1.000 0.000" in table
        assert "<nevus>" not in page.source


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    scores = {
        "psnr": ["PSNR <$dB$>", 1],
        "holes": ["Holes", 0],
        "odd": "Odd",
        "deep": ["D", 99],
    }
    fields = {"name": "a", "task": {"class": "mine.Depth", "fields": {}}}
    config = {"class": "mine.Experiment", "fields": fields, "scores": scores}
    lines = [{"step": k, "epoch": k, "val_psnr": 20 + k, "val_new_score": 0.5} for k in (1, 2)]
    folder = write_run(tmp_path_factory.mktemp("run") / "w", lines=lines, config=config)
    result = {"part": "test", "step": 9, "n": 3, "best": "psnr", "title": "test"}
    result |= {"psnr": 31.25, "psnr_ci95": [30.0, 32.55], "holes": 7.0, "new_score": 0.125}
    result |= {"odd": 0.5, "deep": 0.25, "scales": None, "new_score_ci95": None}
    result["legend"] = {"colours": {"near & far": [1, 2, 3]}, "note": "<Deep>.", "pairs": True}
    result["note"] = "Means over <all> pixels."
    result["per_class"] = {"near & far": {"holes": 3.0}, "else": {"psnr": 28.04}}
    columns, rows = ["psnr", "holes"], [[30, 1], [45.55, 2], [-3, float("inf")]]
    write_evaluation(folder / "evaluations" / "test", result, columns, rows)
    return Page(write_report(folder))


class TestUnknownTask:
    """A task that nobody has written: all that the page says of it is in the run's files."""

    def test_scores_have_their_own_titles_and_digits(self, unknown):
        assert "31.2 PSNR <$dB$> 95 % interval 30.0–32.5 3 test images" in unknown.text
        assert (
            "PSNR <$dB$> 31.2 30.0–32.5 Holes 7 New score 0.125 Odd 0.500 Deep 0.250"
            in unknown.text
        )
        assert "3 test images. Means over <all> pixels." in unknown.text
        for word in ("Dice", "Step", "Scales", "ci95"):
            assert word not in unknown.text

    def test_images_are_ranked_by_the_headline(self, unknown):
        assert "PSNR <$dB$> of each image" in unknown.text
        assert "Median 30.0 (the line)" in unknown.text
        assert "lowest -3.0 (im02)" in unknown.text
        assert pictured(unknown, "All, the worst first", "</section") == ["im02", "im00", "im01"]
        assert "im02 mask picture -3.0 ∞" in unknown.text

    def test_the_legend_is_the_files(self, unknown):
        key = unknown.source.split('class="legend"')[1].split("</p>")[0]
        assert 'rgb(1, 2, 3)"></i>near &amp; far' in key
        assert "<Deep>." in unknown.text
        assert unknown.source.count('class="pictures pairs"') == 1
        classes = unknown.source.split('id="classes"')[1].split("</section>")[0]
        assert classes.count('rgb(1, 2, 3)"></i>near &amp; far') == classes.count("rgb(") == 1

    def test_curves_have_the_titles_too(self, unknown):
        caption = unknown.source.split("<figcaption>Validation score")[1].split("</figcaption>")[0]
        assert "PSNR &lt;$dB$&gt;</span>" in caption
        assert "New score</span>" in caption
        drawing = next(d for d in unknown.all("svg") if "PSNR" in d["aria-label"])
        assert drawing["aria-label"].startswith("Validation score: PSNR <$dB$> from 21 to 22")

    def test_what_files_say_is_escaped(self, unknown):
        for word in ("<$dB", "<Deep", "<all"):
            assert word not in unknown.source
        anchors = {section["id"] for section in unknown.all("section")}
        links = {a["href"][1:] for a in unknown.all("a") if a["href"].startswith("#")}
        assert links == anchors
        assert all(re.fullmatch(r"[\w-]+", anchor) for anchor in anchors)

    def test_titles_a_legend_and_a_best_score_may_be_missing(self, tmp_path):
        config = {name: value for name, value in CONFIG.items() if name != "scores"}
        scores = {"n": 2, "mean_iou": 0.5, "dice": 0.75}
        scores["own_size"] = {"dice": 0.25}
        page = Page(write_report(write_run(tmp_path / "w", [0.5, 0.7], scores, config=config)))
        assert "0.500 Mean iou" in page.text
        assert "Mean iou 0.500 Dice 0.750 0.250 2 test images." in page.text
        del scores["mean_iou"]
        page = Page(write_report(write_run(tmp_path / "v", [0.5, 0.7], scores, config=config)))
        assert 'class="legend"' not in page.source
        assert len(page.all("img")) == 2


class TestRefuses:
    def test_missing_workdir(self, tmp_path):
        with pytest.raises(InputError, match="nowhere: no such folder; name the workdir"):
            write_report(tmp_path / "nowhere")

    def test_missing_configuration(self, tmp_path):
        with pytest.raises(InputError, match=r"config\.json is missing; name the workdir"):
            write_report(tmp_path)

    def test_broken_file(self, tmp_path):
        folder = write_run(tmp_path / "w", [0.5], scores_of(0.5))
        (folder / "evaluations/test/scores.json").write_text('{"dice": ')
        with pytest.raises(InputError, match=r"scores\.json isn't valid JSON .*; restore it"):
            write_report(folder)


def test_matplotlib_is_imported_only_when_a_page_is_drawn():
    code = "import sys, seg_jax.report.page; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
