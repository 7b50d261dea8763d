"""What can be benchmarked: anything with the parts of `Method`.

A method is set up once, learns a person from the source frames, and draws that person in a motion.
It never sees a target frame. One that also transfers appearance has a fourth call, `dress` (`Dresser`).
Pictures that were made elsewhere enter as `PictureFolder`; a class of anybody's as ``module:Class`` or
``file.py:Class``.
"""

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from benchmarks.footage import Footage, inputs_of
from benchmarks.given_pictures import digest_of_pictures, numbered_pictures, read_given_picture
from iper_toolkit.body import Body, BodyParams
from iper_toolkit.keypoints import read_keypoints
from iper_toolkit.true_pictures import FIT
from iper_toolkit.unpickle import read_fit

# Names of folders beside the methods' in a run's pictures.
RESERVED_NAMES = ("source", "target")


# What a method may raise: code of others calls sys.exit() too, and that must not end the run.
METHOD_ERRORS = (Exception, SystemExit)


@dataclass(frozen=True)
class Failure:
    """What went wrong in a method: in one line, and where."""

    reason: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        if isinstance(error, RemoteFailure):
            return error.failure
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        return cls(reason, "".join(traceback.format_exception(error)))


class RemoteFailure(Exception):
    """What went wrong in a method that runs in a process of its own (`benchmarks.isolation`).

    Args:
        text: in one line.
        failure: what the method raised; None: its process died or did not answer.
        kind: the class of what it raised.
        is_plain: whether that was a ValueError or OSError, which the message explains.
    """

    def __init__(
        self, text: str, failure: Failure | None = None, kind: str = "", *, is_plain: bool = False
    ) -> None:
        super().__init__(text)
        self.failure = failure or Failure(text, text)
        self.kind, self.is_plain = kind, is_plain

    def __reduce__(self) -> tuple[object, ...]:
        return _remote_failure, (str(self), self.failure, self.kind, self.is_plain)


def _remote_failure(text: str, failure: Failure, kind: str, is_plain: bool) -> RemoteFailure:
    return RemoteFailure(text, failure, kind, is_plain=is_plain)


@dataclass(frozen=True)
class Setup:
    """What holds for a whole run."""

    size: int  # side of every picture, pixels
    body: Body  # the body of every fit
    device: str = "cpu"
    seed: int = 0
    tasks: tuple[str, ...] = ()  # what will be asked for: "imitation", "transfer", "view"
    precision: str = "auto"  # of networks: "float32", "bfloat16"; "auto": the faster one here


@dataclass(frozen=True)
class Person:
    """What a method may see of a person: the source frames, and the scene to draw them in.

    The background is a clip's plate: the scene without the person, as `iper prepare` found it. It is the
    person's own clip's, but where clothes are transferred that of the clip whose motion is drawn. Every method
    gets the same one.
    """

    clip: str
    frames: tuple[int, ...]  # numbers of the source frames
    pictures: NDArray[np.uint8]  # (n, S, S, 3) RGB, the clip's crop
    masks: NDArray[np.uint8]  # (n, S, S), 255 = person
    params: BodyParams  # of the n sources; camera in NDC of the crop
    background: NDArray[np.uint8]  # (S, S, 3) RGB

    def __post_init__(self) -> None:
        n, size = self.pictures.shape[:2]
        shapes = {"masks": self.masks.shape, "background": self.background.shape}
        wanted = {"masks": (n, size, size), "background": (size, size, 3)}
        if shapes != wanted or len(self.params) != n or len(self.frames) != n:
            raise ValueError(
                f"{n} sources of size {size} take {wanted}; got {shapes}, {len(self.params)} fits and "
                f"{len(self.frames)} frame numbers."
            )

    def copy(self) -> "Person":
        """The same person in memory of its own: what one method writes there, no other one sees."""
        return replace(
            self,
            pictures=self.pictures.copy(),
            masks=self.masks.copy(),
            params=_cloned(self.params),
            background=self.background.copy(),
        )


@dataclass(frozen=True)
class Dressed:
    """A person, and what of the drawn body takes their appearance.

    `parts` are words of `iper_toolkit.body.parts.PART_IDS`, anatomical sides. What nobody gives is the first
    person's.
    """

    person: Person
    parts: tuple[str, ...]

    def copy(self) -> "Dressed":
        """The same in memory of its own."""
        return Dressed(self.person.copy(), self.parts)


@dataclass(frozen=True)
class Motion:
    """The bodies to draw, in order.

    `params` have the person's shape and the camera of the protocol's strategy; a method draws these.
    `driver` holds the driving person's own fits, for methods that retarget in their own way. Of a turned instant
    they are one pose from several sides.
    """

    case: str  # key of the case
    kind: str  # one of `benchmarks.tasks.KINDS`: "self", "cross", ...
    params: BodyParams  # (N)
    driver: BodyParams  # (N)
    positions: tuple[int, ...]  # number of each picture within the case
    case_length: int  # pictures of the whole case; more than N when the run was thinned out
    footage: Footage | None = None  # the driver's film; None for a method that did not ask for it

    def __len__(self) -> int:
        return len(self.positions)

    def frames(self, indices: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """The driver's frames, (n, S, S, 3) uint8 RGB in the driver's crop; read when asked for.

        In self-imitation they are the truth: only a method whose `inputs` name "frames" gets them, and run.json says so.

        Args:
            indices: which of the N, 0 .. N - 1; None: all, which may be many.

        Raises:
            ValueError: the method did not ask for them, or there are none (an instant seen from several sides).
        """
        return self._footage("frames").read(range(len(self)) if indices is None else indices)

    def keypoints(self) -> NDArray[np.float32]:
        """The driver's keypoints, (N, 25, 3): BODY_25 x, y in pixels of `frames`, confidence; NaN where none was found.

        Raises:
            ValueError: the method's `inputs` do not name "keypoints", or the clip has none.
        """
        return self._footage("keypoints").keypoints()

    def _footage(self, what: str) -> Footage:
        if self.footage is None or what not in self.footage.inputs:
            raise ValueError(
                f"The driver's {what} of {self.case} are not given: a method asks for them by "
                f"`inputs = ({what!r},)`, and kind instant has none."
            )
        return self.footage

    def seen_by(self, method: object) -> "Motion":
        """The same in memory of its own, with what of the driver's film the method asks for."""
        inputs = inputs_of(method)
        footage = None
        if self.footage is not None and inputs:
            footage = replace(self.footage, inputs=inputs)
        return replace(self.copy(), footage=footage)

    def copy(self) -> "Motion":
        """The same motion in memory of its own."""
        return replace(self, params=_cloned(self.params), driver=_cloned(self.driver))


def _cloned(params: BodyParams) -> BodyParams:
    return replace(
        params,
        camera=params.camera.clone(),
        pose=params.pose.clone(),
        shape=params.shape.clone(),
    )


@runtime_checkable
class Method(Protocol):
    """Draws people. Objects of any class that has these parts will do.

    Attributes:
        name: stands in the table and names folders; letters, digits and ``-_.+``.
        version: changes when results change.
        weights: sha256 of its weights, empty without any.

    A method that is driven by the driver's film has `inputs`, some of "frames" and "keypoints": then `Motion.frames` and
    `Motion.keypoints` give them, and run.json names them. In self-imitation these frames are the truth.

    A method may have `random_weights`, true where they have learned nothing; the report then says so on top.
    """

    name: str
    version: str
    weights: str

    # A class on the command line needs no more than `name`, `personalize` and `draw`: see `docs/methods.md`.

    def setup(self, setup: Setup) -> None:
        """Called once in each process, before anything else is asked or written. Errors here stop the run."""
        ...

    def personalize(self, person: Person) -> None:
        """Called for each person; the motions that follow are theirs.

        Pictures, masks and fits are the method's own copies; the body of `setup` is shared and must not
        be changed.
        """
        ...

    def draw(self, motion: Motion) -> Iterable[NDArray[np.uint8]]:
        """One (S, S, 3) uint8 RGB picture for each body, in order; better lazily, clips are long.

        Each picture is copied when it arrives, so one buffer may serve for all. `motion` is the method's own
        copy.
        """
        ...


@runtime_checkable
class Dresser(Method, Protocol):
    """A method that also transfers appearance: what it takes to run ``--task transfer``."""

    def dress(self, wearers: Sequence[Dressed]) -> None:
        """Called in place of `personalize`; the motions that follow are of the first person, dressed by the others.

        The first person's shape is drawn, in the scene of their `background`. All of it is the method's own copy.
        """
        ...


class Copy:
    """Shows the first source frame, whatever the motion: what a method must beat."""

    name = "copy"
    version = "1"
    weights = ""

    def setup(self, setup: Setup) -> None:
        pass

    def personalize(self, person: Person) -> None:
        self._picture = person.pictures[0]

    def dress(self, wearers: Sequence[Dressed]) -> None:
        self._picture = wearers[-1].person.pictures[0]  # the clothes are most of what is seen

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        for _ in range(len(motion)):
            yield self._picture


class PictureFolder:
    """Pictures that are there already: ``FOLDER/<case key>/00000.png``, numbered within the case.

    `benchmarks.given_pictures` says which files are read, and how. A case takes a picture for every frame of its
    range; where the run is thinned out, those of the thinned frames alone will do as well. The version tells the pictures apart by what is in them, so that other
    pictures in the same folder are not taken for those that were scored before.
    """

    weights = ""
    _size: int | None = None  # side of a picture; `setup` says it

    def __init__(self, folder: Path, name: str) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder of pictures at {folder}.")
        self.folder = folder.absolute()
        self.name = name
        self.version = f"files-{self._digest()[:16]}"

    def setup(self, setup: Setup) -> None:
        self._size = setup.size

    def personalize(self, person: Person) -> None:
        pass

    def dress(self, wearers: Sequence[Dressed]) -> None:
        pass

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        folder = self.folder / motion.case
        found = numbered_pictures(folder)
        if not found:
            raise FileNotFoundError(
                f"{folder} holds no pictures; the case takes 00000.png to {motion.case_length - 1:05d}.png."
            )
        if set(found) not in (set(motion.positions), set(range(motion.case_length))):
            raise ValueError(
                f"{folder} holds {len(found)} numbered pictures ({min(found):05d}.png to "
                f"{max(found):05d}.png); the case takes 00000.png to {motion.case_length - 1:05d}.png."
            )
        for position in motion.positions:
            yield read_given_picture(found[position], self._size)

    def estimates(self, motion: Motion) -> "FoundPoses":
        """The poses that somebody found in a case's pictures and put beside them, in their order.

        ``CASE/keypoints.json`` or ``CASE/keypoints/`` as `iper prepare` reads keypoints; ``CASE/pose_shape.pkl`` as
        iPER's fits.

        Raises:
            ValueError: a file cannot be read, or has another number of pictures than the case.
        """
        folder, places = self.folder / motion.case, list(motion.positions)
        keypoints = params = None
        for name in ("keypoints.json", "keypoints"):
            if (folder / name).exists():
                table = np.asarray(read_keypoints(folder / name).body25, np.float64)
                keypoints = self._chosen(folder / name, table, places, motion.case_length)
        if (folder / FIT).is_file():
            fit = read_fit(folder / FIT)
            columns = [np.asarray(fit[name], np.float64) for name in ("cams", "pose", "shape")]
            columns[2] = np.broadcast_to(columns[2], (len(columns[1]), columns[2].shape[-1]))
            whole = np.concatenate(columns, axis=1)
            params = self._chosen(folder / FIT, whole, places, motion.case_length)
        return FoundPoses(keypoints, params)

    @property
    def estimated(self) -> tuple[str, ...]:
        """What was estimated in these pictures: "keypoints", "estimated_fit"."""
        keypoints = any(self.folder.rglob("keypoints.json")) or any(self.folder.rglob("keypoints"))
        fits = any(self.folder.rglob(FIT))
        return (*["keypoints"] * keypoints, *["estimated_fit"] * fits)

    def _digest(self) -> str:
        poses = {*self.folder.rglob("*.json"), *self.folder.rglob(FIT)}
        return digest_of_pictures(self.folder, poses)

    @staticmethod
    def _chosen(
        path: Path, table: NDArray[np.float64], places: list[int], length: int
    ) -> NDArray[np.float64]:
        if len(table) not in (length, len(places)):
            raise ValueError(f"{path} is of {len(table)} pictures; the case has {length}.")
        return table[places] if len(table) == length else table


@dataclass(frozen=True)
class FoundPoses:
    """Poses found in N generated pictures; None where nobody looked.

    keypoints: (N, 25, 3) BODY_25 x, y in the picture's pixels and confidence; params: (N, 85) camera, pose, shape.
    """

    keypoints: NDArray[np.float64] | None = None
    params: NDArray[np.float64] | None = None


def _make_warp() -> Method:
    from benchmarks.warp import Warp

    return Warp()


def _make_warp_clothes() -> Method:
    from benchmarks.warp import WarpClothes

    return WarpClothes()


# Every method that comes with the package and learns nothing, in the order in which they run.
BUILT_IN: dict[str, Callable[[], Method]] = {
    "copy": Copy,
    "warp": _make_warp,
    "warp-clothes": _make_warp_clothes,
}


def estimated_poses(specs: Sequence[str]) -> tuple[str, ...]:
    """What poses somebody estimated in the pictures of folders that are named as methods."""
    found: list[str] = []
    for spec in specs:
        name, _, rest = spec.rpartition("=")
        if rest.startswith("folder:"):
            found += PictureFolder(Path(rest.removeprefix("folder:")), name).estimated
    return tuple(dict.fromkeys(found))


def default_methods(
    task: str, *, size: int = 256, body: str = "open", weights: str = ""
) -> tuple[tuple[str, ...], str]:
    """The methods that are run when nobody names any: the baselines that are to be beaten, and the network.

    `warp-clothes` differs from `warp` in transfer only, so it stands beside it where nothing else is run.

    Args:
        task: a word of `tasks.TASKS`, or "all".
        size: of the pictures, pixels.
        body: "open", or the file of an SMPL body.
        weights: of the network; empty: those that ship, which draw the open body alone.

    Returns:
        The names, and why the network is not among them; empty if it is.
    """
    why = ""
    if body != "open" and not weights:
        why = "the weights that ship draw the open body; name others with --weights"
    elif size % 8:
        why = f"networks take sizes that are multiples of 8, and --size is {size}"
    baselines = [name for name in BUILT_IN if task == "transfer" or name != "warp-clothes"]
    return (*baselines, *([] if why else ["lwgan"])), why


# What else a spec may be.
SPECS = {
    "lwgan:FILE": "The liquid-warping generator with weights of a file, a run, a name that ships (attlwb-small, which is "
    "meant without any), or of random:SEED, which have learned nothing; FILE+quick learns each person first.",
    "folder:DIR": "Pictures that are there already.",
    "module:Class": "Anybody's class; file.py:Class likewise.",
}
_TAKES = ", ".join((*BUILT_IN, *SPECS, "file.py:Class"))


def spec_without_name(spec: str) -> str:
    """``NAME=SPEC`` without the name."""
    return spec.partition("=")[2] if re.match(r"[\w.+-]+=", spec) else spec


def load_method(spec: str) -> Method:
    """A method by what the command line names it.

    Args:
        spec: ``copy`` or another built-in; ``lwgan:FILE``; ``folder:DIR``; ``module:Class`` or ``file.py:Class``,
            made without arguments. ``NAME=`` in front renames it.

    Raises:
        ValueError: the spec names nothing, or what it names is no `Method`.
    """
    renamed, _, rest = spec.partition("=") if re.match(r"[\w.+-]+=", spec) else ("", "", spec)
    if rest in BUILT_IN:
        method = BUILT_IN[rest]()
    elif rest.startswith("folder:"):
        folder = Path(rest.removeprefix("folder:"))
        method = PictureFolder(folder, renamed or folder.resolve().name)
    elif rest.startswith("lwgan:"):
        from benchmarks.lwgan_method import LwganMethod

        method = LwganMethod(rest.removeprefix("lwgan:"))
    elif rest == "lwgan":
        from benchmarks.lwgan_method import USUAL_WEIGHTS, LwganMethod

        method = LwganMethod(USUAL_WEIGHTS)
    elif ":" in rest:
        method = _load_class(rest, renamed)
    else:
        raise ValueError(f"Unknown method {spec!r}. It takes one of {_TAKES}.")
    if renamed:
        method.name = renamed
    check_identity(method)
    return method


def with_weights(specs: Sequence[str], weights: str) -> tuple[str, ...]:
    """The specs, where ``lwgan`` or ``NAME=lwgan`` draws with these weights.

    Raises:
        ValueError: no spec waits for weights.
    """
    completed = [
        f"{one}:{weights}" if re.fullmatch(r"([\w.+-]+=)?lwgan", one) else one for one in specs
    ]
    if completed == list(specs):
        raise ValueError(
            f"--weights {weights} is for --method lwgan, and the methods are {', '.join(specs)}."
        )
    return tuple(completed)


def check_size(specs: Sequence[str], size: int) -> None:
    """Raise ValueError, before anything is loaded, if one of the methods cannot draw pictures of this side."""
    for spec in specs:
        if re.fullmatch(r"lwgan(:.*)?", spec_without_name(spec)) and size % 8:
            raise ValueError(
                f"method {spec}: the networks halve pictures three times, so --size must be a multiple of 8; it is {size}. "
                f"Take --size {round(size / 8) * 8}, or leave the method out."
            )


def as_dresser(method: Method) -> Dresser:
    """The method, if it can transfer appearance; raises ValueError otherwise."""
    if not isinstance(method, Dresser):
        raise ValueError(
            f"method {method.name} cannot transfer appearance: it has no `dress` (benchmarks.methods.Dresser). Run it "
            "with --task imitation or --task view, or leave it out."
        )
    return method


def check_identity(method: Method) -> None:
    """Raise ValueError unless name, version and weights can stand in the table for this method."""
    for part in ("name", "version", "weights"):
        value = getattr(method, part)
        if not isinstance(value, str):
            raise ValueError(
                f"{type(method).__name__}.{part} is {value!r}, not text; it takes a str"
                + (", empty without weights." if part == "weights" else ".")
            )
    check_name(method.name)
    if method.name in BUILT_IN and type(method) is not type(BUILT_IN[method.name]()):
        raise ValueError(
            f"{method.name!r} is the name of a built-in method, and this is another one. Rename it with NAME=SPEC "
            "(--name for `score`)."
        )


def is_built_in(method: Method) -> bool:
    """Whether the method's class comes with this package."""
    isolated: bool | None = getattr(method, "is_built_in", None)
    if isolated is not None:
        return isolated
    return type(method).__module__.partition(".")[0] == __package__


def describe(name: str) -> str:
    """The first sentence of a built-in method's description."""
    return (type(BUILT_IN[name]()).__doc__ or "").strip().partition("\n")[0]


def check_name(name: str) -> None:
    """Raise ValueError unless the name can be a folder beside the reserved ones."""
    if not re.fullmatch(r"[\w+-][\w.+-]*", name) or name in RESERVED_NAMES:
        raise ValueError(
            f"{name!r} cannot name a method: it takes letters, digits and -_.+, and neither of "
            f"{', '.join(RESERVED_NAMES)}. Rename it with NAME=SPEC (--name for `score`)."
        )


def _load_class(spec: str, name: str) -> Method:
    where, _, class_name = spec.rpartition(":")
    if where.endswith(".py") and not Path(where).is_file():
        raise FileNotFoundError(f"There is no file {where}.")
    try:
        module = (
            _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        )
    except METHOD_ERRORS as error:
        raise _not_loaded(spec, "cannot be imported", error) from error
    made = getattr(module, class_name, None)
    if made is None:
        raise ValueError(f"{where} has no {class_name!r}.")
    try:
        method = made()
    except METHOD_ERRORS as error:
        raise _not_loaded(spec, "cannot be made without arguments", error) from error
    lacks = [part for part in ("personalize", "draw") if not callable(getattr(method, part, None))]
    if not name and not hasattr(method, "name"):
        lacks.insert(0, "name")
    if lacks:
        raise ValueError(
            f"{spec} is no method: it lacks {', '.join(lacks)}. A method has a name and the methods personalize(person) and "
            "draw(motion); examples/my_method.py is one, and docs/methods.md says what they are given."
        )
    defaults = {
        "name": name,
        "version": _version_of_source(method),
        "weights": "",
        "setup": _no_setup,
    }
    for part, default in defaults.items():
        if not hasattr(method, part):
            try:
                setattr(method, part, default)
            except AttributeError as error:
                raise ValueError(
                    f"{spec} lacks {part}, and takes no attribute: {error}."
                ) from error
    found: Method = method
    return found


def _no_setup(setup: Setup) -> None:
    pass


def _version_of_source(method: object) -> str:
    """What tells one state of a class's file from another, for a method that does not say its version."""
    try:
        source = Path(inspect.getfile(type(method))).read_bytes()
    except (OSError, TypeError):  # typed into an interpreter
        return "unknown"
    return f"source-{hashlib.sha256(source).hexdigest()[:12]}"


def _not_loaded(spec: str, what: str, error: BaseException) -> ValueError:
    failure = Failure.of(error)
    return ValueError(
        f"method {spec}: {what}: {failure.reason}. It takes one of {_TAKES}.\n{failure.traceback}"
    )


def _load_file(path: Path) -> ModuleType:
    name = f"benchmarked_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    spec.loader.exec_module(module)
    return module
