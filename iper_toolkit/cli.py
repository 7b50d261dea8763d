"""The `iper` command. Each command parses, calls one library function and prints.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from iper_toolkit import __version__
from iper_toolkit.console import (
    FOLDER,
    JSON,
    Commands,
    FileOrWord,
    chosen_shard,
    plain_errors,
    print_json,
    tell,
)
from iper_toolkit.progress import counted

if TYPE_CHECKING:
    from iper_toolkit.prepare import Summary

_ROOT = click.option(
    "--root",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    help="The dataset folder.",
)


@click.group(
    "iper",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nStart here:\n  iper synth --root data/ --size tiny --seed 1\n  iper prepare --root data/",
)
@click.version_option(__version__, prog_name="iper")
def main() -> None:
    """Clips and bodies: turn videos of people into tables that a model or a benchmark reads.

    \b
    iper synth --root data/      make a synthetic dataset in iPER's layout
    iper prepare --root data/    crop, fit, mask and describe every clip under data/
    iper check --root data/      compare files with what was recorded of them
    """


@main.command()
@_ROOT
@click.option(
    "--size",
    type=click.Choice(["tiny", "few", "small", "many", "medium"]),
    default="small",
    show_default=True,
    help="tiny: 3 people at 96 px, seconds. small: 8 people at 256 px, about 110 s of one core's time. few: 6 people with few frames each, many: 24 such. medium: 32 people.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["frames", "mp4"]),
    default="frames",
    show_default=True,
    help="Folders of jpg frames, or one mp4 a clip.",
)
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes.")
@JSON
def synth(
    root: Path,
    size: str,
    seed: int,
    form: Literal["frames", "mp4"],
    workers: int | None,
    as_json: bool,
) -> None:
    """Write synthetic people in iPER's own layout and file formats.

    \b
    iper synth --root data/ --size tiny --seed 1
    iper synth --root data/ --size small --seed 7 --format mp4
    """
    with plain_errors():
        from iper_toolkit.synthetic.dataset import write_dataset

        with _lines(quiet=as_json) as line:
            written = write_dataset(
                root,
                size=size,
                seed=seed,
                frame_format=form,
                workers=workers,
                progress=lambda done, total, outfit: line(f"outfit {outfit}", None, done, total),
            )
    if as_json:
        print_json(root=str(root), clips=written.clips, frames=written.frames)
        return
    click.echo(
        f"{root}: {written.clips} synthetic clips of {written.frames} frames. "
        f"Next: iper prepare --root {root}"
    )


@main.command()
@_ROOT
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option(
    "--shard",
    metavar="I/N",
    default=None,
    help="Do part I of N (0-based). Default: the part that srun or torchrun gave to this process, else all.",
)
@click.option(
    "--size", type=click.IntRange(16), default=512, show_default=True, help="Working size, pixels."
)
@click.option(
    "--body",
    type=FileOrWord(),
    default="open",
    show_default=True,
    help='"open", or the path of an SMPL file, for official SMPL fits.',
)
@click.option(
    "--crop-factor",
    type=click.FloatRange(1),
    default=1.3,
    show_default=True,
    help="Crop side over the person's extent, for clips fitted from keypoints.",
)
@JSON
def prepare(
    root: Path,
    workers: int,
    shard: str | None,
    size: int,
    body: str,
    crop_factor: float,
    as_json: bool,
) -> None:
    """Crop, fit, mask and describe every clip under --root; write its tables.

    May be killed at any moment and started again: what is done is not done twice.

    \b
    iper prepare --root data/
    iper prepare --root data/ --workers 8
    iper prepare --root /shared/iPER --shard 3/16 --body SMPL_NEUTRAL.pkl
    srun -n 16 iper prepare --root /shared/iPER --body SMPL_NEUTRAL.pkl
    """
    with plain_errors():
        from iper_toolkit.prepare import prepare as prepare_root
        from iper_toolkit.stages import Options

        options = Options(body=body, size=size, crop_factor=crop_factor)
        part = chosen_shard(shard)
        with _lines(quiet=as_json) as line:
            summary = prepare_root(
                root, workers=workers, shard=part, options=options, progress=line
            )
    if as_json:
        print_json(
            root=str(root),
            clips=summary.num_clips,
            prepared=summary.prepared,
            unchanged=summary.unchanged,
            failures=summary.failures,
            warnings=summary.warnings,
            tables_written=summary.tables_written,
            unread=summary.unread,
            unmatched=summary.unmatched,
        )
    else:
        _print_unused(summary)
        click.echo(
            f"{root}: {summary.num_clips} clip{'s' * (summary.num_clips != 1)}; {len(summary.prepared)} prepared, "
            f"{len(summary.unchanged)} unchanged, {len(summary.failures)} failed."
        )
        _print_failures(summary.failures)
        _print_warnings(summary.warnings)
        if not summary.tables_written and part[1] > 1:
            click.echo("Other shards are still at work; the last one writes the tables.")
        elif not summary.tables_written:
            click.echo("The tables are not written yet: mend the above and run this again.")
    sys.exit(0 if summary.ok else 1)


def _print_warnings(warnings: dict[str, tuple[str, ...]]) -> None:
    """On standard error; of many clips the first five."""
    for clip_id, sentences in list(warnings.items())[:5]:
        for sentence in sentences:
            click.echo(f"  WARNING {clip_id}: {sentence}", err=True)
    if len(warnings) > 5:
        click.echo(
            f"  WARNING: {len(warnings) - 5} more clips have warnings; iper prepare --json lists them all.",
            err=True,
        )


def _print_unused(summary: Summary) -> None:
    from iper_toolkit.naming import shortened

    if summary.unmatched:
        click.echo(f"Names without a clip: {shortened(list(summary.unmatched))}.", err=True)
    if summary.unread:
        click.echo(
            f"Not read: {shortened(list(summary.unread))}. See iper prepare --help for what is.",
            err=True,
        )


@main.command()
@_ROOT
@click.option(
    "--out",
    type=FOLDER,
    default=None,
    help="Folder to write; default: ROOT/protocol.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace a protocol that is there (a dataset may ship one)."
)
@JSON
def protocol(root: Path, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Write a self-imitation protocol for your own prepared clips.

    Sources are the frames that show each clip's person best, from the front and from behind; every frame is a target.

    \b
    iper protocol --root data/
    lwgan-bench run --task imitation --root data/
    """
    with plain_errors():
        from iper_toolkit.clip import Dataset
        from iper_toolkit.own_protocol import write_own_protocol

        written = write_own_protocol(Dataset.open(root), out, overwrite=overwrite)
    if as_json:
        print_json(folder=str(written.folder), clips=written.clips, digest=written.digest)
    else:
        click.echo(f"{written.folder}: self-imitation of {len(written.clips)} clips.")


@main.command()
@_ROOT
@JSON
def check(root: Path, as_json: bool) -> None:
    """Compare tables, cache and source files with what was recorded of them.

    Finds a flipped byte, a missing frame, a fit of the wrong length.

    \b
    iper check --root data/
    iper check --root data/ --json
    """
    with plain_errors():
        from iper_toolkit.check import check_root

        findings = check_root(root)
    if as_json:
        print_json(
            ok=not findings,
            findings=[{"clip": f.clip_id, "file": f.file, "problem": f.problem} for f in findings],
        )
    else:
        for finding in findings:
            click.echo(f"{finding.clip_id or 'tables'}: {finding.file}: {finding.problem}")
        click.echo(f"{len(findings)} problems." if findings else f"{root}: all as recorded.")
    sys.exit(1 if findings else 0)


@main.command()
@_ROOT
@JSON
def info(root: Path, as_json: bool) -> None:
    """Say what a prepared dataset holds.

    \b
    iper info --root data/
    iper info --root data/ --json
    """
    with plain_errors():
        from iper_toolkit.clip import Dataset
        from iper_toolkit.manifest import read_about

        dataset, about = Dataset.open(root), read_about(root)
    clips = [dataset.clip(name) for name in dataset.clip_ids]
    facts: dict[str, Any] = {
        "root": str(root),
        "name": dataset.name,
        "synthetic": dataset.synthetic,
        "digest": dataset.digest,
        "body_id": about["body_id"],
        "clips": len(clips),
        "subjects": len({clip.subject for clip in clips}),
        "frames": sum(clip.num_frames for clip in clips),
        "splits": {s or "none": n for s, n in _count(clip.split for clip in clips).items()},
        "fits": _count(clip.fit_source for clip in clips),
        "masks": _count(clip.mask_source for clip in clips),
        "failures": dataset.failures,
    }
    if as_json:
        print_json(**facts)
        return
    failures = facts.pop("failures")
    for name, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name:10} {text}")
    for clip in clips:
        error = clip.row["fit_error_pixels"]
        fit = clip.fit_source if error is None else f"{clip.fit_source} {error:.1f} px"
        click.echo(
            f"  {clip.id}: {clip.num_frames} frames, crop {clip.crop.side} px, "
            f"fit {fit}, masks {clip.mask_source}"
        )
    _print_failures(failures)


@main.command()
@click.argument("clip")
@_ROOT
@click.option(
    "--out",
    type=FOLDER,
    default=None,
    help="Folder for the pictures; default: ROOT/preview/CLIP.",
)
@click.option(
    "--size", type=click.IntRange(64), default=512, show_default=True, help="Pixels of a side."
)
@click.option(
    "--body",
    type=FileOrWord(),
    default=None,
    help="Path of the SMPL file, if the clip's fits are SMPL's.",
)
@JSON
def preview(
    clip: str, root: Path, out: Path | None, size: int, body: str | None, as_json: bool
) -> None:
    """Look at one clip: a contact sheet, and a video with the fitted body over the person.

    \b
    iper preview 001/1/1 --root data/
    iper preview my_video --root data/ --out preview/
    """
    with plain_errors():
        from iper_toolkit.clip import Dataset
        from iper_toolkit.preview import write_preview

        dataset = Dataset.open(root)
        written = write_preview(dataset.clip(clip), out or root / "preview" / clip, size, body)
    if as_json:
        print_json(files=[str(path) for path in written])
    else:
        click.echo("\n".join(str(path) for path in written))


@main.command()
@click.argument("name", required=False)
@click.option(
    "--package",
    type=click.Choice(["iper_toolkit", "lwgan", "benchmarks"]),
    default=None,
    help="Only what this package opens.",
)
@click.option("--missing", is_flag=True, help="Only files that are missing or damaged.")
@click.option(
    "--check",
    "hashes",
    is_flag=True,
    help="Read the files that are there and compare their sha256; exit with 1 if one is wrong.",
)
@JSON
def assets(
    name: str | None, package: str | None, missing: bool, hashes: bool, as_json: bool
) -> None:
    """List the files that are not code: bodies, weights, judges; with NAME, all that is known of one.

    Nothing is downloaded: the list says what is there, under which licence, how to get the rest and where to put it.

    \b
    iper assets
    iper assets lpips-alex
    iper assets --package benchmarks --missing
    iper assets --check
    """
    if name is not None and (package is not None or missing):
        raise click.UsageError("NAME is one file; --package and --missing choose among all.")
    with plain_errors():
        from iper_toolkit.assets import asset_table, assets_folder, find_asset

        chosen = [find_asset(name)] if name is not None else list(asset_table().values())
        chosen = [asset for asset in chosen if package in (None, asset.package)]
        there = [asset for asset in chosen if asset.path.is_file()]
        faults = {
            asset.name: asset.fault(hashes=hashes)
            for asset in counted(there, "verifying", len(there), "file")
        }
        rows = [
            {
                **dataclasses.asdict(asset),
                "path": str(asset.path),
                "short_licence": asset.short_licence,
                "status": _status(asset.name, faults),
                "fault": faults.get(asset.name),
                "checked": hashes and asset.name in faults and asset.hash_is_known,
            }
            for asset in chosen
        ]
    shown = [row for row in rows if not (missing and row["status"] == "there")]
    damaged = [row for row in rows if row["status"] == "damaged"]
    if as_json:
        print_json(ok=not damaged, folder=str(assets_folder()), assets=shown)
    elif name is not None:
        _print_asset(rows[0], hashes)
    else:
        _print_assets(shown)
        for row in damaged:
            click.echo(row["fault"], err=True)
        num_there = sum(row["status"] == "there" for row in rows)
        checked = sum(row["checked"] for row in rows)
        told = (
            f" sha256 compared: {checked}; the other files that are there have none on record."
            if hashes
            else ""
        )
        click.echo(
            f"{num_there} of {len(rows)} there, {len(damaged)} damaged.{told} Yours go below {assets_folder()} "
            "(IPER_ASSETS names another folder). How to get one: iper assets NAME"
        )
    sys.exit(1 if hashes and damaged else 0)


# ------------------------------------------------------------------------------------------- helping


@contextmanager
def _lines(*, quiet: bool) -> Iterator[Callable[[str, str | None, int, int], None]]:
    """A line a clip on standard error; on a terminal, which has a bar, only what failed."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()

    def line(clip_id: str, error: str | None, finished: int, total: int) -> None:
        if not quiet and (not on_terminal or error is not None):
            tell(
                f"[{finished}/{total}] {clip_id}: {'done' if error is None else f'FAILED: {error}'}"
            )

    yield line


def _status(name: str, faults: dict[str, str | None]) -> str:
    """A file is missing where nothing was looked at; one with a fault is damaged."""
    if name not in faults:
        return "missing"
    return "damaged" if faults[name] else "there"


def _print_assets(rows: list[dict[str, Any]]) -> None:
    """A line a file, under the package that opens it; the file's place comes last, as it may be long."""
    width = max((len(row["name"]) for row in rows), default=0)
    licence_width = max((len(row["short_licence"]) for row in rows), default=0)
    package = None
    for row in rows:
        if row["package"] != package:
            package = row["package"]
            click.echo(f"{package}:")
        place = f"(shipped) {row['file']}" if row["shipped"] else row["file"]
        click.echo(
            f"  {row['status']:8} {row['name']:{width}}  {row['short_licence']:{licence_width}}  {place}"
        )


def _print_asset(row: dict[str, Any], hashes: bool) -> None:
    """The whole story of one file."""
    sha256 = row["sha256"] or (
        f"begins with {row['sha256_prefix']}" if row["sha256_prefix"] else "not known"
    )
    size = "not known" if row["bytes"] is None else f"{row['bytes']:,} bytes"
    click.echo(f"{row['name']}: {row['title']}")
    facts = {
        "status": row["status"]
        + (", sha256 as known" if row["checked"] and not row["fault"] else ""),
        "fault": row["fault"],
        "used by": f"{row['package']}: {row['used_by']}",
        "licence": row["licence"],
        "get it": row["how"],
        "path": row["path"] + (" (shipped)" if row["shipped"] else ""),
        "sha256": sha256,
        "size": size,
        "note": row["note"],
    }
    if hashes and row["status"] == "there" and not row["checked"]:
        from iper_toolkit.assets import find_asset

        facts["found"] = f"sha256 {find_asset(row['name']).digest()}, to compare by hand"
    for title, text in facts.items():
        if text is not None:
            click.echo(f"  {title:8} {text}")


def _print_failures(failures: dict[str, str]) -> None:
    for clip_id, reason in failures.items():
        tell(f"  {clip_id}: {reason}")


def _count(values: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))
