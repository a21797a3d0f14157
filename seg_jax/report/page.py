"""The HTML page of a run, finished or not.

It knows no task: titles, digits, legends and notes come from the files of the run.
"""

import re
from html import escape
from importlib import resources
from pathlib import Path

from seg_jax.files import write_whole
from seg_jax.report import tables
from seg_jax.report.elements import note
from seg_jax.report.pictures import pictures
from seg_jax.report.read import Run, read_run
from seg_jax.run.workdir import Workdir


def write_report(workdir: Path) -> Path:
    """Writes `workdir/report.html`: one file that needs no other to be read.

    Whatever the run hasn't written yet is named on the page as missing.

    Raises:
      InputError: if the workdir or its config.json is missing, or a file in it is broken.
    """
    from seg_jax.report import charts  # only here, as it imports matplotlib

    run = read_run(Path(workdir))
    headline = run.title(run.shown.best) if run.shown else "Score"
    sections = {
        "Scores": tables.scores(run),
        "Groups": tables.groups(run),
        "Classes": tables.classes(run),
        "Other evaluations": tables.others(run),
        "Learning curves": charts.curves(run),
        f"{headline} of each image": charts.distribution(run),
        "Pictures": pictures(run),
        "All images": tables.images(run),
        "Configuration": tables.configuration(run),
        "Environment": tables.environment(run),
    }
    path = Workdir(run.workdir).report
    write_whole(path, _page(run, {title: body for title, body in sections.items() if body}))
    return path


def _page(run: Run, sections: dict[str, str]) -> str:
    name = escape(str(run.fields.get("name", run.workdir.name)))
    anchors = {title: re.sub(r"\W+", "-", title.lower()) for title in sections}
    links = " ".join(f'<a href="#{anchors[title]}">{escape(title)}</a>' for title in sections)
    bodies = "\n".join(
        f'<section id="{anchors[title]}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'
        for title, body in sections.items()
    )
    style = resources.files("seg_jax.report").joinpath("report.css").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{name}</h1>
{_summary(run)}
<nav>{links}</nav>
</header>
<main>
{bodies}
</main>
</body>
</html>
"""


def _summary(run: Run) -> str:
    """What was trained on what, how far, and the headline score."""
    facts = []
    match run.fields:
        case {"model": {"class": str(net)}, "data": {"class": str(data)}}:
            facts.append(f"{tables.short(net)} on {tables.short(data)}")
    if run.shown is None:
        return note(" · ".join([*facts, _reached(run)]))
    scores, best = run.shown.scores, run.shown.best
    if "parameters" in scores:
        facts.append(f"{scores['parameters']:,} parameters")
    took = run.environment.get("seconds")
    facts.append(_reached(run) if took is None else f"finished in {tables.duration(took)}")
    interval = tables.interval(run, scores, best, "95 % interval ")
    return f"""{note(" · ".join(facts))}
<p class="score"><strong>{run.number(scores.get(best), best)}</strong> {escape(run.title(best))}
<span>{interval} {escape(run.shown.count)}</span></p>"""


def _reached(run: Run) -> str:
    last = run.lines[-1] if run.lines else {}
    match last:
        case {"step": int(step)}:
            reached = f"not finished, last heard of at step {step:,}"
        case _:
            return "not finished"
    match last, run.fields:
        case {"epoch": int() | float() as epoch}, {"epochs": int() | float() as epochs}:
            reached += f" (epoch {epoch:.0f} of {epochs})"
    return reached
