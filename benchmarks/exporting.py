"""Cases as plain files, for methods that are no Python class: what a method may see, and where its pictures belong.

::

    cases.json, cases.csv        one entry a case: what is drawn of whom, plain values
    frames.csv                   one line a picture that a method is to write
    README.txt                   this, in words
    <case key>/source/           00000.png ...: who is shown; of several people in a folder each, named by their parts
    <case key>/source_masks/     the same, 255 = person
    <case key>/background.png    the scene without the person
    <case key>/driver/           00000.png ...: the frames whose motion is drawn, numbered as the pictures are
    <case key>/driver_masks/     the same, 255 = person
    <case key>/driver_body25.npy (N, 25, 3) float32: x, y in pixels of the driver's pictures, and confidence
    <case key>/bodies.npz        camera, pose, shape of the bodies to draw, of the driver and of the sources

A method writes ``<case key>/00000.png`` ... beside these folders, or below any other folder, and `lwgan-bench score
--pictures` reads them. Where a case is scored against the driver's own frames (self-imitation, turns, an outfit of
one's own) the files in ``driver/`` are the truth: a method must not copy them. See `docs/protocols.md`.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.case_reader import CaseReader, ReadCase
from benchmarks.footage import keypoints_of
from benchmarks.methods import Dressed
from benchmarks.planning import PreparedClip, PreparedDataset, Settings, plan_cases
from benchmarks.tasks import KINDS
from iper_toolkit.atomic import write_atomically
from iper_toolkit.body import Body, BodyParams
from iper_toolkit.cases import Case
from iper_toolkit.images import write_image
from iper_toolkit.plain_text import csv_row
from iper_toolkit.progress import task
from iper_toolkit.protocols import Protocol as CaseTables
from iper_toolkit.true_pictures import TruthTables

_CHUNK = 32  # frames in memory at a time
_INDEX = "cases.json"
_CASE_COLUMNS = ("case", "task", "kind", "subject", "person", "driver", "fps", "size", "pictures")
_FRAME_COLUMNS = (
    "case",
    "position",
    "picture",
    "clip",
    "frame",
    "valid",
    "scored",
    "driver_frame",
    "driver_mask",
)


def export_cases(
    dataset: PreparedDataset,
    protocol: CaseTables,
    settings: Settings,
    out: Path,
    *,
    body: Body,
    truths: TruthTables,
) -> tuple[int, dict[str, str]]:
    """Write the cases of a run into a new or empty folder, or go on in one that holds an earlier part of the same.

    Args:
        dataset, protocol, settings, body, truths: as `runner.Run` takes them; metrics do not matter.
        out: the folder; pictures that a method has written there stay.

    Returns:
        How many cases were written, and why others were not: case key -> reason.

    Raises:
        ValueError: nothing can be drawn, or the folder holds something else.
    """
    plan = plan_cases(dataset, protocol, settings, truths)
    about = {
        "schema": 1,
        "protocol": protocol.id,
        "protocol_digest": protocol.digest,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "size": settings.size,
        "task": settings.task,
        "kinds": list(settings.kinds),
        "num_sources": settings.num_sources,
        "max_frames": settings.max_frames,
        "body": body.id,
    }
    _check_folder(out, about)
    reader = CaseReader(dataset, truths, settings, body, "none")
    cases: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    left = dict(plan.missing)
    with task("exporting", total=len(plan.cases), unit="case") as advance:
        for group in plan.groups:
            for case in group:
                advance(len(cases), case.key)
                try:
                    read = reader.read_case(case, reader.read_people(case))
                    new = _write_case(out, read, dataset, settings.size)
                except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
                    left[case.key] = str(error)
                    continue
                cases.append(new)
                frames += new["frames"]
    index = json.dumps(about | {"cases": cases}, ensure_ascii=False, indent=1) + "\n"
    write_atomically(out / "frames.csv", lambda part: _write_csv(part, _FRAME_COLUMNS, frames))
    write_atomically(out / "cases.csv", lambda part: _write_csv(part, _CASE_COLUMNS, cases))
    write_atomically(out / "README.txt", lambda part: part.write_text(_readme(settings), "utf-8"))
    write_atomically(out / _INDEX, lambda part: part.write_text(index, encoding="utf-8"))
    return len(cases), left


def plain_case(case: Case) -> dict[str, Any]:
    """What a case is in plain values: names, frame numbers, 0-based. Of kind instant `frames` are angles in degrees."""
    return {
        "case": case.key,
        "task": KINDS[case.kind].task,
        "kind": case.kind,
        "sources": [
            {"clip": one.clip, "frames": list(one.frames), "parts": list(one.parts)}
            for one in case.people
        ],
        "driver": case.driver,
        "scene": case.scene,
        "frames": list(case.frames),
        "instant": getattr(case, "instant", None),
        "num_sources": case.num_sources,
        "note": case.note,
    }


def _check_folder(out: Path, about: dict[str, Any]) -> None:
    index = out / _INDEX
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is no folder; --out takes a new one.")
    if not index.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise ValueError(f"{out} holds other files; --out takes a new or an empty folder.")
        write_atomically(index, lambda part: part.write_text(json.dumps(about), encoding="utf-8"))
        return
    try:
        before = json.loads(index.read_text(encoding="utf-8"))
        other = [name for name, value in about.items() if before[name] != value]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{index} is no list of exported cases; --out takes a new folder."
        ) from error
    if other:
        told = "; ".join(f"{name} is {before[name]!r}, not {about[name]!r}" for name in other)
        raise ValueError(
            f"{out} holds cases that were exported otherwise: {told}. Choose another --out."
        )


def _write_case(out: Path, read: ReadCase, dataset: PreparedDataset, size: int) -> dict[str, Any]:
    case, folder = read.case, out / read.case.key
    driver = dataset.clip(case.driver)
    for person in read.people:
        part = "+".join(person.parts) if len(read.people) > 1 else ""
        for name, pictures in (
            ("source", person.person.pictures),
            ("source_masks", person.person.masks),
        ):
            for number, picture in enumerate(pictures):
                _write_once(folder / name / part / f"{number:05d}.png", picture)
    _write_once(folder / "background.png", read.people[0].person.background)
    has_driver = case.kind != "instant"  # whose pictures are angles of one moment
    if has_driver:
        _write_driver(folder, read, driver, size)
    bodies = {
        f"{name}_{part}": getattr(params, part).cpu().numpy()
        for name, params in _bodies(read).items()
        for part in ("camera", "pose", "shape")
    }
    write_atomically(folder / "bodies.npz", lambda part: _write_npz(part, bodies))
    plain = plain_case(case)
    numbers = zip(read.motion.positions, read.frames, read.scored.tolist(), strict=True)
    frames = [
        {
            "case": case.key,
            "position": position,
            "picture": f"{case.key}/{position:05d}.png",
            "clip": case.driver,
            "frame": frame,
            "valid": bool(driver.valid[frame]) if has_driver else True,
            "scored": scored,
            "driver_frame": f"{case.key}/driver/{position:05d}.png" if has_driver else None,
            "driver_mask": f"{case.key}/driver_masks/{position:05d}.png" if has_driver else None,
        }
        for position, frame, scored in numbers
    ]
    sources = [
        told | {"pictures": _source_paths(case.key, person, len(read.people)),
                "masks": _source_paths(case.key, person, len(read.people), "source_masks")}
        for told, person in zip(plain["sources"], read.people, strict=True)
    ]  # fmt: skip
    keypoints = folder / "driver_body25.npy"
    return plain | {
        "subject": read.subject,
        "person": case.people[0].clip,
        "size": size,
        "fps": getattr(driver, "fps", None),
        "pictures": len(frames),
        "sources": sources,
        "background": f"{case.key}/background.png",
        "driver_keypoints": f"{case.key}/{keypoints.name}" if keypoints.is_file() else None,
        "bodies": f"{case.key}/bodies.npz",
        "case_length": read.motion.case_length,
        "frames": frames,
    }


def _source_paths(key: str, person: Dressed, people: int, name: str = "source") -> list[str]:
    part = f"{'+'.join(person.parts)}/" if people > 1 else ""
    return [f"{key}/{name}/{part}{number:05d}.png" for number in range(len(person.person.frames))]


def _bodies(read: ReadCase) -> dict[str, BodyParams]:
    found = {"drawn": read.motion.params, "driver": read.motion.driver}
    for k, person in enumerate(read.people):
        found["source" if len(read.people) == 1 else f"source{k}"] = person.person.params
    return found


def _write_driver(folder: Path, read: ReadCase, driver: PreparedClip, size: int) -> None:
    for first in range(0, len(read.frames), _CHUNK):
        part = slice(first, first + _CHUNK)
        numbers, positions = list(read.frames[part]), read.motion.positions[part]
        pictures, masks = driver.frames(numbers, size), driver.masks(numbers, size)
        for position, picture, mask in zip(positions, pictures, masks, strict=True):
            _write_once(folder / "driver" / f"{position:05d}.png", picture)
            _write_once(folder / "driver_masks" / f"{position:05d}.png", mask)
    found = keypoints_of(driver, read.frames, size)
    if found is not None:
        write_atomically(folder / "driver_body25.npy", lambda part: _write_npy(part, found))


def _write_once(path: Path, picture: NDArray[np.uint8]) -> None:
    """An export that was cut off goes on: a picture that is there is whole."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, picture)


def _write_npz(path: Path, arrays: dict[str, NDArray[np.float32]]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _write_npy(path: Path, array: NDArray[np.float32]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(csv_row(row[name] for name in columns) for row in rows)


def _readme(settings: Settings) -> str:
    return (
        f"{__doc__}\n"
        f"Pictures are PNG, RGB, 8 bits, {settings.size} x {settings.size}. Score them with the options of this export:\n"
        f"    lwgan-bench score --pictures THIS_FOLDER --name ours --root ROOT --task {settings.task} --size {settings.size}"
        f" --num-sources {settings.num_sources} --max-frames {settings.max_frames}\n"
    )
