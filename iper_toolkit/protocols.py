"""Evaluation protocols: which clip is re-made from which source frames, and which frames are scored.

A protocol is a folder: `protocol.toml` (id, version, dataset, title, rules) and one csv file a table,
whose columns are the fields of the row classes below. Shipped ones lie in `manifests/protocols/<id>/`;
a dataset may carry its own in `<root>/protocol/`. Frame numbers are 0-based positions in a clip's
sorted frame list, whatever the files are called; ranges are inclusive at both ends.

The tables say what was agreed; a *case* (`iper_toolkit.cases`) is one piece of work made from them.
`docs/protocols.md` lists the known inconsistencies.
"""

import csv
import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from iper_toolkit.assets import manifests_folder
from iper_toolkit.atomic import write_atomically
from iper_toolkit.cases import ImitationCase, TransferCase, ViewCase, case_key, each_once
from iper_toolkit.csv_rows import read_csv_rows
from iper_toolkit.plain_text import csv_row

Kind = Literal["self", "cross", "all"]


class SourceRow(NamedTuple):
    """`frame` is source number `position` of `video` when `num_sources` sources are allowed."""

    video: str
    num_sources: int
    position: int
    frame: int


class SelfRow(NamedTuple):
    """`video` is re-made on its own frames `first_frame..last_frame`."""

    video: str
    first_frame: int
    last_frame: int


class CrossRow(NamedTuple):
    """The person of `video`, driven by frames of `driver`; `real_*` are real frames of the person to compare with."""

    video: str
    driver: str
    driver_first: int
    driver_last: int
    real_first: int
    real_last: int


class ViewRow(NamedTuple):
    """A frame of a turning person. `kind`: a source "candidate", an "evaluated" frame, or one only "listed"."""

    video: str
    kind: str
    position: int
    frame: int
    nominal_angle: int | None


class TransferRow(NamedTuple):
    """`person` dressed as in `outfit_from`, whose frames are the motion and the truth."""

    person: str
    outfit_from: str


TABLES: dict[str, type] = {
    "sources": SourceRow,
    "self_imitation": SelfRow,
    "cross_imitation": CrossRow,
    "views": ViewRow,
    "appearance_transfer": TransferRow,
}
RULES = {
    "frames": "0-based positions in the sorted frame list; ranges are inclusive at both ends",
    "past the end": "a case is clipped to the frames that exist, and its note says how many were lost",
    "repeated sources": "a source frame that is listed twice is given once",
    "source frames": "drawn but not scored; the variant named 'official' scores them too",
}
VIEW_KINDS = ("candidate", "evaluated", "listed")


@dataclass(frozen=True)
class Protocol:
    """The frozen tables of one protocol, checked.

    `one_source_of`: None, or n where each of the n sources of a clip is a case of its own, one source at a time.
    """

    id: str
    version: int
    dataset: str
    title: str
    rules: Mapping[str, str] = field(default_factory=dict)
    one_source_of: int | None = None
    sources: tuple[SourceRow, ...] = ()
    self_imitation: tuple[SelfRow, ...] = ()
    cross_imitation: tuple[CrossRow, ...] = ()
    views: tuple[ViewRow, ...] = ()
    appearance_transfer: tuple[TransferRow, ...] = ()

    def __post_init__(self) -> None:
        where = f"protocol {self.id!r}"
        if not self.id or not all(letter.isalnum() or letter in "-._" for letter in self.id):
            raise ValueError(f"{where}: the id takes letters, digits, '-', '.' and '_'.")
        if not self.sources:
            raise ValueError(f"{where}: sources.csv is empty, so no case has a source frame.")
        for kind, rows in self.tables.items():
            if len(set(rows)) != len(rows):
                twice = next(row for row in rows if rows.count(row) > 1)
                raise ValueError(f"{where}: {kind}.csv holds the row {tuple(twice)} twice.")
        for row in self.self_imitation:
            self._check_range("self_imitation", row.video, row.first_frame, row.last_frame)
        for cross in self.cross_imitation:
            self._check_range(
                "cross_imitation", cross.driver, cross.driver_first, cross.driver_last
            )
            self._check_range("cross_imitation", cross.video, cross.real_first, cross.real_last)
        self._check_views()
        self._check_transfers()
        for clip, counts in self._sources_of.items():
            for num_sources, frames in counts.items():
                if len(frames) != num_sources or any(frame < 0 for frame in frames):
                    raise ValueError(
                        f"{where}: sources.csv lists {frames} for {num_sources} sources of {clip}; "
                        f"it takes positions 0..{num_sources - 1}, each once, and frames from 0 up."
                    )
        videos = {row.video for row in self.self_imitation + self.cross_imitation}
        videos |= {row.video for row in self.views if row.kind == "evaluated"}
        transferred = {name for row in self.appearance_transfer for name in row}
        without = sorted((videos | transferred) - set(self._sources_of))
        if without:
            raise ValueError(f"{where}: sources.csv has no row for {', '.join(without[:5])}.")
        lost = sorted({r.outfit_from for r in self.appearance_transfer} - set(self._self_ranges))
        if lost:
            raise ValueError(f"{where}: self_imitation.csv has no range for {', '.join(lost[:5])}.")
        keys = [case_key("self", row.video) for row in self.self_imitation]
        keys += [case_key("cross", row.video, row.driver) for row in self.cross_imitation]
        keys += [case_key("transfer", *row) for row in self.appearance_transfer]
        keys += [case_key("view", clip) for clip in sorted({row.video for row in self.views})]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(
                    f"{where}: two cases would be called {key!r}; a case is named once."
                )

    def _check_views(self) -> None:
        where = f"protocol {self.id!r}: views.csv"
        places = [(row.video, row.kind, row.position) for row in self.views]
        twice = {place for place, number in Counter(places).items() if number > 1}
        for row, place in zip(self.views, places, strict=True):
            if row.kind not in VIEW_KINDS:
                raise ValueError(
                    f"{where} has kind {row.kind!r}; it takes {', '.join(VIEW_KINDS)}."
                )
            if row.frame < 0 or row.position < 0:
                raise ValueError(f"{where} has {tuple(row)}; positions and frames count from 0.")
            if place in twice:
                raise ValueError(f"{where} has {tuple(row)}, whose position is in another row too.")

    def _check_transfers(self) -> None:
        for row in self.appearance_transfer:
            if row.person == row.outfit_from:
                raise ValueError(
                    f"protocol {self.id!r}: appearance_transfer.csv dresses {row.person} as in {row.outfit_from}; "
                    "the outfit takes another clip of the person."
                )

    def _check_range(self, table: str, video: str, first: int, last: int) -> None:
        if not 0 <= first <= last:
            raise ValueError(
                f"protocol {self.id!r}: {table}.csv has the range {first}..{last} for {video}; "
                "it takes 0 <= first <= last (both ends belong to it)."
            )

    @property
    def tables(self) -> dict[str, tuple[Any, ...]]:
        """Table name -> its rows, in the order of the files."""
        return {name: getattr(self, name) for name in TABLES}

    @cached_property
    def digest(self) -> str:
        """sha256 of what decides a score: everything but the title, rows sorted, so file order and line ends do not."""
        content = {
            "id": self.id,
            "version": self.version,
            "dataset": self.dataset,
            "rules": dict(self.rules),
            "one_source_of": self.one_source_of,
            "tables": {
                name: sorted(([*row] for row in rows), key=json.dumps)
                for name, rows in self.tables.items()
            },
        }
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def clips(self) -> tuple[str, ...]:
        """Every clip that a case reads, sorted."""
        names = {row.video for row in self.self_imitation + self.cross_imitation + self.views}
        names |= {row.driver for row in self.cross_imitation}
        names |= {name for row in self.appearance_transfer for name in row}
        return tuple(sorted(names))

    @cached_property
    def _sources_of(self) -> dict[str, dict[int, tuple[int, ...]]]:
        """clip -> number of sources -> frames by position."""
        found: dict[str, dict[int, dict[int, int]]] = {}
        for row in self.sources:
            found.setdefault(row.video, {}).setdefault(row.num_sources, {})[row.position] = (
                row.frame
            )
        return {
            clip: {
                number: tuple(frames[k] for k in range(number) if k in frames)
                for number, frames in counts.items()
            }
            for clip, counts in found.items()
        }

    @cached_property
    def _self_ranges(self) -> dict[str, SelfRow]:
        return {row.video: row for row in self.self_imitation}

    def source_frames(self, clip: str, num_sources: int) -> tuple[int, ...]:
        """The frames listed as the sources of a clip, by position; a frame may be listed twice.

        Raises:
            ValueError: the protocol has no list of that length for the clip.
        """
        counts = self._sources_of.get(clip, {})
        if num_sources not in counts:
            raise ValueError(
                f"protocol {self.id!r} lists no {num_sources} sources for {clip!r}; "
                f"it has lists of {', '.join(map(str, sorted(counts))) or 'none'}."
            )
        return counts[num_sources]

    def imitation_cases(self, kind: Kind = "all", num_sources: int = 1) -> list[ImitationCase]:
        """The cases of motion imitation, in the order of the tables: first self, then cross.

        Raises:
            ValueError: no such list of sources, or more than one source where the protocol allows one at a time.
        """
        if self.one_source_of is not None and num_sources != 1:
            raise ValueError(
                f"protocol {self.id!r} gives one source at a time; it takes num_sources=1, not {num_sources}."
            )
        cases: list[ImitationCase] = []
        if kind in ("self", "all"):
            for row in self.self_imitation:
                own = (row.first_frame, row.last_frame)
                cases += self._cases_of("self", row.video, row.video, (*own, *own), num_sources)
        if kind in ("cross", "all"):
            for cross in self.cross_imitation:
                cases += self._cases_of("cross", cross.video, cross.driver, cross[2:], num_sources)
        return cases

    def _cases_of(
        self,
        kind: Literal["self", "cross"],
        clip: str,
        driver: str,
        ranges: tuple[int, int, int, int],
        num_sources: int,
    ) -> list[ImitationCase]:
        key = case_key(kind, clip, driver)
        if self.one_source_of is None:
            frames, note = each_once(self.source_frames(clip, num_sources))
            return [ImitationCase(key, kind, clip, driver, num_sources, frames, *ranges, note)]
        return [
            ImitationCase(f"{key}-from-{k}", kind, clip, driver, 1, (frame,), *ranges)
            for k, frame in enumerate(self.source_frames(clip, self.one_source_of))
        ]

    def transfer_cases(self, num_sources: int = 1) -> list[TransferCase]:
        """The cases of appearance transfer within one person, drawn on the self range of the clip that gives the outfit.

        Raises:
            ValueError: no such list of sources.
        """
        cases = []
        for row in self.appearance_transfer:
            person, note = each_once(self.source_frames(row.person, num_sources))
            outfit, of_outfit = each_once(self.source_frames(row.outfit_from, num_sources))
            own = self._self_ranges[row.outfit_from]
            cases.append(
                TransferCase(
                    key=case_key("transfer", row.person, row.outfit_from),
                    kind="own",
                    person=row.person,
                    outfit_from=row.outfit_from,
                    driver=row.outfit_from,
                    num_sources=num_sources,
                    person_source_frames=person,
                    outfit_source_frames=outfit,
                    frames=tuple(range(own.first_frame, own.last_frame + 1)),
                    note="; ".join(filter(None, [note, of_outfit])),
                )
            )
        return cases

    def view_cases(self, num_sources: int = 1) -> list[ViewCase]:
        """The cases of novel view, one a clip with evaluated frames; sources are those of imitation.

        Raises:
            ValueError: no such list of sources.
        """
        evaluated: dict[str, list[ViewRow]] = {}
        for row in self.views:
            if row.kind == "evaluated":
                evaluated.setdefault(row.video, []).append(row)
        cases = []
        for clip, rows in evaluated.items():
            sources, note = each_once(self.source_frames(clip, num_sources))
            listed = tuple(row.frame for row in sorted(rows, key=lambda row: row.position))
            frames = tuple(dict.fromkeys(listed))  # a row of scores is of one frame
            if frames != listed:
                told = f"evaluated frames {list(listed)} name a frame twice"
                note = "; ".join(filter(None, [note, told]))
            key = case_key("view", clip)
            cases.append(ViewCase(key, "turn", clip, num_sources, sources, frames, note=note))
        return cases


def protocols_folder() -> Path:
    """Where the shipped protocols lie."""
    return manifests_folder() / "protocols"


def shipped_protocols() -> tuple[str, ...]:
    """Ids of the protocols that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in protocols_folder().glob("*/protocol.toml")))


def load_protocol(name_or_path: str | Path) -> Protocol:
    """A shipped protocol by its id, or any protocol by its folder.

    Raises:
        FileNotFoundError: neither a shipped id nor a folder with protocol.toml.
        ValueError: a file does not hold what it should; the message names file and line.
    """
    folder = protocols_folder() / name_or_path
    if not (folder / "protocol.toml").is_file():
        folder = Path(name_or_path)
    if not (folder / "protocol.toml").is_file():
        raise FileNotFoundError(
            f"No protocol {str(name_or_path)!r}: neither one of {', '.join(shipped_protocols())} "
            "nor a folder with protocol.toml. `iper protocol --root ROOT` writes one for your own clips."
        )
    facts_file = folder / "protocol.toml"
    try:
        facts = tomllib.loads(facts_file.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{facts_file} is not TOML: {error}.") from error
    known = {"id": str, "version": int, "dataset": str, "title": str}
    optional = {"rules": dict, "one_source_of": int, "tables_of": str}
    for name, value in facts.items():
        wanted = (known | optional).get(name)
        if wanted is None or not isinstance(value, wanted):
            raise ValueError(
                f"{facts_file}: {name} = {value!r} is not understood; it takes "
                + ", ".join(f"{key} ({kind.__name__})" for key, kind in (known | optional).items())
            )
    if missing := sorted(set(known) - set(facts)):
        raise ValueError(f"{facts_file} lacks {', '.join(missing)}.")
    # A variant shares its tables with the protocol it varies, so that they cannot drift apart.
    tables_folder = folder.parent / facts.pop("tables_of") if "tables_of" in facts else folder
    tables: dict[str, Any] = {
        name: read_csv_rows(tables_folder / f"{name}.csv", row) for name, row in TABLES.items()
    }
    return Protocol(**(facts | tables))


def protocol_of(root: Path, dataset: str) -> Protocol:
    """The protocol that a dataset is benchmarked with when nobody names one: its own, else the shipped one.

    Args:
        root: the dataset's folder; `<root>/protocol/` is its own.
        dataset: name of the dataset.

    Raises:
        FileNotFoundError: there is neither.
    """
    if (root / "protocol" / "protocol.toml").is_file():
        return load_protocol(root / "protocol")
    for name in shipped_protocols():
        protocol = load_protocol(name)
        if protocol.dataset == dataset and protocol.one_source_of is None:
            return protocol
    raise FileNotFoundError(
        f"{root} has no protocol/ of its own, and none is shipped for the dataset {dataset!r}. "
        f"For your own clips run: iper protocol --root {root}. Else name one with --protocol: "
        f"{', '.join(shipped_protocols())}, or a folder."
    )


def write_protocol(
    folder: Path,
    *,
    id: str,
    dataset: str,
    title: str,
    version: int = 1,
    rules: Mapping[str, str] | None = None,
    sources: Iterable[tuple[Any, ...]],
    self_imitation: Iterable[tuple[Any, ...]] = (),
    cross_imitation: Iterable[tuple[Any, ...]] = (),
    views: Iterable[tuple[Any, ...]] = (),
    appearance_transfer: Iterable[tuple[Any, ...]] = (),
) -> Protocol:
    """Write a protocol folder; rows are tuples in the order of the row classes' fields. Returns what was written.

    `rules` default to `RULES`, which is what the runner does.

    The tables come first and protocol.toml last: a folder without it is no protocol, so a kill half-way leaves none.

    Raises:
        ValueError: the tables do not make a protocol.
    """
    given = {
        "sources": sources,
        "self_imitation": self_imitation,
        "cross_imitation": cross_imitation,
        "views": views,
        "appearance_transfer": appearance_transfer,
    }
    tables: dict[str, Any] = {
        name: tuple(TABLES[name](*row) for row in rows) for name, rows in given.items()
    }
    protocol = Protocol(
        id=id,
        version=version,
        dataset=dataset,
        title=title,
        rules=dict(RULES if rules is None else rules),
        **tables,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "protocol.toml").unlink(missing_ok=True)
    for name, rows in protocol.tables.items():
        path = folder / f"{name}.csv"
        if rows:
            write_atomically(path, partial(_write_table, name=name, rows=rows))
        else:
            path.unlink(missing_ok=True)
    lines = [f"id = {_quote(id)}", f"version = {version}", f"dataset = {_quote(dataset)}"]
    lines += [f"title = {_quote(title)}"]
    if protocol.rules:
        lines += ["", "[rules]"]
        lines += [f"{_quote(name)} = {_quote(rule)}" for name, rule in protocol.rules.items()]
    write_atomically(folder / "protocol.toml", partial(_write_text, lines=lines))
    return protocol


def _write_text(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


def _write_table(path: Path, name: str, rows: tuple[Any, ...]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(TABLES[name]._fields)  # type: ignore[attr-defined]
        writer.writerows(map(csv_row, rows))


def _quote(text: str) -> str:
    """A TOML basic string; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
