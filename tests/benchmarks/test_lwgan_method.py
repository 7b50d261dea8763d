"""The generator as a method: its weights, its three tasks, and what it is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import lwgan_method, methods
from benchmarks.lwgan_method import LwganMethod
from benchmarks.methods import Dresser, Setup, load_method, with_weights
from benchmarks.planning import Settings
from benchmarks.record import read_run
from benchmarks.report import write_report
from benchmarks.results import read_rows
from benchmarks.runner import Run, run_all
from iper_toolkit.body import Body
from iper_toolkit.clip import Dataset
from iper_toolkit.images import read_image
from iper_toolkit.protocols import Protocol
from iper_toolkit.true_pictures import TruthTables
from lwgan import precision
from lwgan.checkpoints import CheckpointError, Origin, load_checkpoint, save_checkpoint
from lwgan.generators import GeneratorConfig, build_generator
from lwgan.person import Dressed, Person
from lwgan.surface_tables import surface_tables
from lwgan.synthesis import synthesize
from lwgan.tasks import Plan

SIZE = 48
TINY = GeneratorConfig(
    background_channels=(4, 8, 8, 8),
    background_blocks=1,
    channels=(8, 8, 8),
    residual_blocks=1,
    spade_hidden=4,
)


@pytest.fixture(scope="module")
def weights(body: Body, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(5)
    tables = surface_tables(body, "corrected")
    save_checkpoint(path, build_generator(TINY), surface=tables.id, origin=Origin("random", seed=5))
    return path


def test_all_tasks_are_drawn_and_named_by_the_file(
    weights: Path,
    dataset: Any,
    every_task: Protocol,
    truths: TruthTables,
    tmp_path: Path,
    body: Body,
) -> None:
    method = load_method(f"ours=lwgan:{weights}")
    assert isinstance(method, Dresser)
    settings = Settings(task="all", kind="all", size=SIZE, metrics=("l1",), max_frames=1)
    out = tmp_path / "run"
    run = Run(dataset, every_task, [method], settings, out, body=body, truths=truths, keep="all")
    outcomes, complete = run_all(run)
    assert complete
    assert {one.status for one in outcomes} == {"ok"}
    table = read_rows(out / "rows.parquet").to_pylist()
    assert {row["kind"] for row in table} == {"self", "own", "other", "turn", "instant"}
    assert {row["weights"] for row in table} == {load_checkpoint(weights).sha256}
    assert read_run(out)["methods"]["ours"]["weights"] == load_checkpoint(weights).sha256
    # What the run kept is what the library draws of the same people and bodies, over the driver's plate.
    case = "transfer/001_1_1-wears-001_1_2"
    drawn = draw_transfer(weights, dataset, [2], 0, body)
    kept = read_image(out / "pictures" / "ours" / case / "00000.png")
    assert np.abs(kept.astype(int) - drawn).max() <= 1


def draw_transfer(
    weights: Path, dataset: Any, sources: list[int], frame: int, body: Body
) -> np.ndarray:
    """What the library draws of 001/1/1 in the clothes of 001/1/2, at a frame of these."""
    head, clothes = dataset.clip("001/1/1"), dataset.clip("001/1/2")
    people = tuple(
        Dressed(
            Person(
                clip.id,
                clip.frames(sources, SIZE),
                clip.masks(sources, SIZE),
                clip.params(sources),
                clothes.background(SIZE),
            ),
            parts,
        )
        for clip, parts in ((head, ("head",)), (clothes, ("body",)))
    )
    bodies = clothes.params([frame])
    bodies.shape[:] = head.params([2]).shape
    plan = Plan("transfer", people, bodies, 25.0)
    (drawn,) = synthesize(plan, load_checkpoint(weights), body, background="plate")
    return drawn.picture


def test_all_sources_of_both_people_reach_the_network(
    weights: Path,
    dataset: Any,
    every_task: Protocol,
    tmp_path: Path,
    body: Body,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # An untrained network hardly looks at its sources, so its pictures alone would not show one that is lost.
    plans: list[Plan] = []
    enter = lwgan_method.set_scene

    def watched(plan: Plan, *rest: Any, **options: Any) -> Any:
        plans.append(plan)
        return enter(plan, *rest, **options)

    monkeypatch.setattr(lwgan_method, "set_scene", watched)
    settings = Settings(
        task="transfer", kind="own", size=SIZE, metrics=("l1",), max_frames=1, num_sources=2
    )
    out, method = tmp_path / "run", LwganMethod(str(weights))
    run = Run(dataset, every_task, [method], settings, out, body=body, keep="all")
    assert run_all(run)[1]
    assert read_run(out)["failures"] == []
    clips = [dataset.clip(name) for name in ("001/1/1", "001/1/2")]
    assert [one.parts for one in plans[0].people] == [("head",), ("body",)]
    for wearer, clip in zip(plans[0].people, clips, strict=True):
        np.testing.assert_array_equal(wearer.person.pictures, clip.frames([2, 4], SIZE))
        np.testing.assert_array_equal(wearer.person.masks, clip.masks([2, 4], SIZE))
        torch.testing.assert_close(wearer.person.params.pose, clip.params([2, 4]).pose)
        np.testing.assert_array_equal(wearer.person.plate, clips[1].background(SIZE))
    case = "transfer/001_1_1-wears-001_1_2"
    kept = read_image(out / "pictures" / method.name / case / "00000.png")
    drawn = draw_transfer(weights, dataset, [2, 4], 0, body)
    assert np.abs(kept.astype(int) - drawn).max() <= 1


def test_a_person_is_encoded_once_for_all_motions(
    weights: Path, dataset: Any, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes: list[Plan] = []
    enter = lwgan_method.set_scene

    def counting(plan: Plan, *rest: Any, **options: Any) -> Any:
        scenes.append(plan)
        return enter(plan, *rest, **options)

    monkeypatch.setattr(lwgan_method, "set_scene", counting)
    method = LwganMethod(str(weights))
    method.setup(Setup(SIZE, body))
    clip = dataset.clip("001/1/1")
    pictures, masks = clip.frames([0], SIZE), clip.masks([0], SIZE)
    params, plate = clip.params([0, 1]), clip.background(SIZE)
    person = methods.Person(clip.id, (0,), pictures, masks, params[[0]], plate)
    method.personalize(person)
    drawn = []
    for frames in ([0], [1], [0, 1]):
        motion = methods.Motion("a", "self", params[frames], params[frames], tuple(frames), 2)
        drawn.append(list(method.draw(motion)))
    assert len(scenes) == 1
    for first, second in zip((drawn[0][0], drawn[1][0]), drawn[2], strict=True):
        assert np.abs(first.astype(int) - second).max() <= 1
    assert (drawn[0][0] != drawn[1][0]).any()
    method.dress([methods.Dressed(person, ()), methods.Dressed(person, ("upper",))])
    assert [plan.task for plan in scenes] == ["imitate", "transfer"]


def test_weights_for_another_surface_stop_the_run_before_any_case(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    tables = surface_tables(body, "corrected")
    path = tmp_path / "theirs.safetensors"
    other = tables.id._replace(body_id="smpl-0123456789ab", digest="0" * 64)
    save_checkpoint(path, build_generator(TINY), surface=other, origin=Origin("trained"))
    settings = Settings(size=SIZE, metrics=("l1",))
    run = Run(dataset, every_task, [LwganMethod(str(path))], settings, tmp_path / "run", body=body)
    with pytest.raises(ValueError, match=r"^method lwgan: .*smpl-0123456789ab"):
        run_all(run)
    assert not (tmp_path / "run").exists()


def test_sizes_that_the_networks_cannot_halve(weights: Path, body: Body) -> None:
    with pytest.raises(ValueError, match=r"--size must be a multiple of 8; it is 50"):
        LwganMethod(str(weights)).setup(Setup(50, body))


def test_random_weights_are_called_so(
    weights: Path, dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    tables = surface_tables(body, "corrected")
    path = tmp_path / "trained.safetensors"
    save_checkpoint(path, build_generator(TINY), surface=tables.id, origin=Origin("trained"))
    learned = load_method(f"lwgan:{path}")
    untrained, renamed = load_method(f"lwgan:{weights}"), load_method(f"ours=lwgan:{weights}")
    versions = [(one.name, one.version) for one in (learned, untrained, renamed)]
    assert versions == [("lwgan", "1"), ("lwgan-random", "1-random"), ("ours", "1-random")]
    settings = Settings(size=SIZE, metrics=("l1",), max_frames=1, subjects=("003",))
    for methods_, said in (([learned], False), ([learned, renamed], True)):
        out = tmp_path / f"run-{said}"
        run_all(Run(dataset, protocol, methods_, settings, out, body=body))
        page = write_report(out).read_text()
        assert ("Random weights." in page) == said
        assert ("ours drew with weights that have learned nothing" in page) == said


def test_random_weights_are_only_those_that_were_asked_for(
    body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.lwgan_method._RANDOM_CONFIG", TINY)
    one, again, two = (load_method(f"lwgan:random:{seed}") for seed in (1, 1, 2))
    assert one.weights == again.weights != two.weights
    one.setup(Setup(SIZE, body))
    with pytest.raises(ValueError, match="seed of random weights is a whole number"):
        load_method("lwgan:random:many")
    with pytest.raises(FileNotFoundError, match="There are no weights nowhere"):
        load_method("lwgan:nowhere.safetensors")


def test_weights_that_ship_are_called_by_their_name() -> None:
    usual = load_method("lwgan")
    assert usual.name == lwgan_method.USUAL_WEIGHTS == "attlwb-small"
    assert usual.weights == load_checkpoint("attlwb-small").sha256
    personal = load_method("lwgan:attlwb-small+quick")
    assert (personal.name, personal.version) == ("attlwb-small-quick", "1-quick")
    assert personal.weights == usual.weights
    with pytest.raises(ValueError, match=r"behind the \+ stands.*quick, thorough, official"):
        load_method("lwgan:attlwb-small+slow")


def test_each_person_is_learned_first(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trained.safetensors"
    tables = surface_tables(body, "corrected")
    small = replace(TINY, background_network=False)
    save_checkpoint(path, build_generator(small), surface=tables.id, origin=Origin("trained"))
    learned: list[tuple[list[str], str]] = []

    def learn(
        people: Any, checkpoint: Any, body: Any, *, preset: str, device: str, precision: str
    ) -> Any:
        learned.append(([person.name for person in people], preset))
        return checkpoint

    monkeypatch.setattr(lwgan_method, "personalize", learn)
    settings = Settings(task="transfer", kind="own", size=SIZE, metrics=("l1",), max_frames=1)
    method = load_method(f"lwgan:{path}+thorough")
    run_all(Run(dataset, every_task, [method], settings, tmp_path / "run", body=body))
    assert learned
    assert all(preset == "thorough" for _, preset in learned)
    assert max(len(names) for names, _ in learned) == 2  # who wears, and whose clothes they are


def test_people_who_are_drawn_alone_can_be_learned_alone(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trained.safetensors"
    tables = surface_tables(body, "corrected")
    small = replace(TINY, background_network=False)
    save_checkpoint(path, build_generator(small), surface=tables.id, origin=Origin("trained"))
    learned: list[int] = []

    def learn(people: Any, checkpoint: Any, body: Any, **settings: Any) -> Any:
        learned.append(len(people))
        return checkpoint

    monkeypatch.setattr(lwgan_method, "personalize", learn)
    method = load_method(f"lwgan:{path}+quick-alone")
    assert method.version == "1-quick-alone"
    for task in ("transfer", "imitation"):
        assert learned == []
        settings = Settings(task=task, kind="scored", size=SIZE, metrics=("l1",), max_frames=1)
        run = Run(dataset, every_task, [method], settings, tmp_path / task, body=body)
        assert {one.status for one in run_all(run)[0]} == {"ok"}
    assert set(learned) == {1}


@pytest.mark.parametrize(
    ("fastest", "asked", "used", "suffix"),
    [
        ("float32", "auto", "float32", ""),
        ("bfloat16", "auto", "bfloat16", "-bfloat16"),
        ("bfloat16", "float32", "float32", ""),
        ("float32", "bfloat16", "bfloat16", "-bfloat16"),
    ],
)
def test_the_precision_is_used_and_recorded(
    weights: Path,
    fastest: str,
    asked: str,
    used: str,
    suffix: str,
    dataset: Any,
    every_task: Protocol,
    tmp_path: Path,
    body: Body,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "_measured", {precision.machine_id(): fastest})
    dtypes: list[torch.dtype] = []
    entered = lwgan_method.set_scene

    def enter(*args: Any, **kwargs: Any) -> Any:
        dtypes.append(kwargs["dtype"])
        return entered(*args, **kwargs)

    monkeypatch.setattr(lwgan_method, "set_scene", enter)
    settings = Settings(task="imitation", size=SIZE, metrics=("l1",), max_frames=1)
    method, out = load_method(f"lwgan:{weights}"), tmp_path / "run"
    run_all(Run(dataset, every_task, [method], settings, out, body=body, precision=asked))
    assert set(dtypes) == {getattr(torch, used)}
    versions = set(read_rows(out / "rows.parquet").column("method_version").to_pylist())
    assert len(versions) == 1
    assert versions.pop().endswith(f"random{suffix}")
    # The same command on a machine that takes the other one is refused, and mixes nothing.
    other = "float32" if used == "bfloat16" else "bfloat16"
    again = load_method(f"lwgan:{weights}")
    with pytest.raises(ValueError, match=r"in version .*; now it is"):
        run_all(Run(dataset, every_task, [again], settings, out, body=body, precision=other))


def test_the_precision_of_learning_is_recorded(body: Body) -> None:
    method = LwganMethod("attlwb-small+quick")
    method.setup(Setup(SIZE, body, precision="bfloat16"))
    assert method.version == "1-quick-learned-bfloat16-bfloat16"
    method.setup(Setup(SIZE, body, precision="float32"))
    assert method.version == "1-quick"
    reference = LwganMethod("attlwb-small+official")  # learns in float32 always
    reference.setup(Setup(SIZE, body, precision="bfloat16"))
    assert reference.version == "1-official-bfloat16"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="cut off or no"):
        load_method(f"lwgan:{path}")


def test_weights_go_to_the_methods_that_wait_for_them() -> None:
    specs = with_weights(("warp", "lwgan", "b=lwgan", "c=lwgan:own"), "w")
    assert specs == ("warp", "lwgan:w", "b=lwgan:w", "c=lwgan:own")
    with pytest.raises(ValueError, match="--weights w is for --method lwgan, and the methods are"):
        with_weights(("warp",), "w")


def test_the_command_takes_several_weights(
    weights: Path,
    dataset: Any,
    every_task: Protocol,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from click.testing import CliRunner

    from benchmarks.cli import main

    monkeypatch.setattr(Dataset, "open", classmethod(lambda _, root: dataset))
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--task", "view", "--size", "48", "--metrics", "l1", "--out", "run"]
    arguments += ["--protocol", "every-task", "--kind", "scored", "--root", "root"]
    arguments += ["--method", "lwgan", "--weights", str(weights), "--method", f"b=lwgan:{weights}"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "No case of kind instant" in done.stderr
    assert {row["method"] for row in read_rows(Path("run/rows.parquet")).to_pylist()} == {
        "lwgan-random",  # its weights have learned nothing, and the tables show it
        "b",
    }


def test_a_mistyped_size_is_a_sentence_and_leaves_no_folder(
    weights: Path,
    dataset: Any,
    every_task: Protocol,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from click.testing import CliRunner

    from benchmarks.cli import main

    monkeypatch.setattr(Dataset, "open", classmethod(lambda _, root: dataset))
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--task", "view", "--kind", "turn", "--metrics", "l1", "--out", "run"]
    arguments += ["--protocol", "every-task", "--method", f"lwgan:{weights}", "--size"]
    for workers in ("1", "2"):
        done = CliRunner().invoke(main, [*arguments, "50", "--workers", workers])
        assert done.exit_code == 1
        assert done.stderr.startswith(f"Error: method lwgan:{weights}: the networks halve pictures")
        assert "must be a multiple of 8; it is 50. Take --size 48" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not Path("run").exists()
    assert CliRunner().invoke(main, [*arguments, "48"], catch_exceptions=False).exit_code == 0
