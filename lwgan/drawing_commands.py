"""`lwgan imitate`, `transfer` and `view`: read who is drawn and how they move, draw, and say what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iper_toolkit.console import plain_errors, print_json
from iper_toolkit.progress import counted
from lwgan.options import SOURCES, DrawingOptions, drawing_options, motion_options

if TYPE_CHECKING:
    from lwgan.checkpoints import Checkpoint
    from lwgan.outputs import Written
    from lwgan.people import NamedFrames
    from lwgan.tasks import Plan


@click.command()
@SOURCES
@motion_options(required=True)
@click.option(
    "--view",
    "views",
    type=float,
    multiple=True,
    metavar="DEGREES",
    help="See it all from the side. Of several, each is a file of its own, x_view45.mp4.",
)
@click.option(
    "--bullet-time",
    "stops",
    multiple=True,
    metavar="FRAME:DURATION",
    help="Before that frame of the motion, from 0, stop the time for so many frames while the view goes once around.",
)
@drawing_options
def imitate(
    sources: tuple[str, ...],
    motion: str,
    camera: Any,
    no_smoothing: bool,
    max_frames: int,
    views: tuple[float, ...],
    stops: tuple[str, ...],
    **drawing: Any,
) -> None:
    """A person does what somebody else did.

    \b
    lwgan imitate --source front.png --source back.png --motion dance.mp4 --personalize quick --out out.mp4
    lwgan imitate --root data/ --source 001/1/1 --motion 001/1/2@4-12 \\
        --weights FILE.safetensors --out out.mp4 --compare compare.mp4
    lwgan imitate --root data/ --source 001/1/1@0,8 --motion 002/1/2 --view 45 --view -45 \\
        --weights FILE.safetensors --out out.mp4
    lwgan imitate --root data/ --source 001/1/1 --motion 001/1/2 --bullet-time 8:24 \\
        --weights random --size 256 --out noise.mp4 --inputs-out inputs.mp4
    """
    with plain_errors():
        from lwgan import tasks
        from lwgan.people import motion_of

        chosen = DrawingOptions(**drawing)
        moments = [_parse_stop(stop) for stop in stops]
        chosen.check_before_reading([tasks.view_name(degrees) for degrees in views])
        person, driver = chosen.read_person(sources), chosen.open(motion)
        followed = motion_of(driver, max_frames)
        plans = tasks.imitate(
            person,
            followed,
            chosen.load_body(),
            camera=camera,
            smooth=not no_smoothing,
            views=views,
            bullet_time=moments,
        )
        _draw(chosen, plans, sources[0], driver, followed.origin)


@click.command()
@click.option(
    "--person",
    "people",
    multiple=True,
    required=True,
    metavar="SOURCE[+SOURCE...][=PART,...]",
    help="A person and the parts that are taken from them. The first one is drawn, in the first one's scene, and "
    "keeps what nobody else gives.",
)
@motion_options(required=False)
@click.option(
    "--select",
    type=click.Choice(["texture", "flow"]),
    default="texture",
    show_default=True,
    help="texture: parts meet in the texture. flow: a person's features also reach only their own parts.",
)
@drawing_options
def transfer(
    people: tuple[str, ...],
    motion: str | None,
    camera: Any,
    no_smoothing: bool,
    max_frames: int,
    select: Any,
    **drawing: Any,
) -> None:
    """A person wears parts of others; without a --motion, as one picture in their own pose.

    Parts: head, facial, torso, left_arm, right_arm, arms, left_hand, right_hand, hands, left_leg, right_leg,
    legs, left_foot, right_foot, feet; upper (torso, arms, hands), lower (legs, feet), body, all.
    Left and right are the body's own.

    \b
    lwgan transfer --root data/ --person 001/1/1 --person 002/1/1=upper \\
        --motion 001/1/2 --weights FILE.safetensors --out out.mp4
    lwgan transfer --person me.png --person "shirt.png=torso,arms" --person shoes.png=feet \\
        --weights FILE.safetensors --out dressed.png
    lwgan transfer --person front.png+back.png --person other.mp4@0,30=lower \\
        --motion dance.mp4 --weights FILE.safetensors --out out.mp4
    """
    with plain_errors():
        from lwgan import tasks
        from lwgan.people import motion_of, split_parts
        from lwgan.person import Dressed

        chosen = DrawingOptions(**drawing)
        if motion is None:
            _refuse_without_motion("camera", "no_smoothing", "max_frames", "fps")
        if len(people) < 2:
            raise ValueError(
                "One --person alone wears nothing of others. Add one, such as --person 002/1/1=upper, or use: "
                "lwgan imitate"
            )
        worn = [split_parts(text) for text in people]
        for text, (_, parts) in list(zip(people, worn, strict=True))[1:]:
            if not parts:
                raise ValueError(
                    f"--person {text} says no part to take from them; write {text.rstrip('=')}=upper, for example."
                )
        chosen.check_before_reading()
        dressed = [Dressed(chosen.read_person(names), parts) for names, parts in worn]
        driver = None if motion is None else chosen.open(motion)
        followed = None if driver is None else motion_of(driver, max_frames)
        plan = tasks.transfer(
            dressed,
            followed,
            chosen.load_body(),
            select=select,
            camera=camera,
            smooth=not no_smoothing,
        )
        _draw(chosen, [plan], worn[0][0][0], driver, followed.origin if followed else ())


@click.command()
@SOURCES
@click.option(
    "--turn",
    type=click.IntRange(1),
    default=None,
    metavar="FRAMES",
    help="Once around in so many frames.  [default: 180]",
)
@click.option(
    "--angle",
    "angles",
    type=float,
    multiple=True,
    metavar="DEGREES",
    help="Only this angle, 0 is the front; may be repeated.",
)
@click.option(
    "--t-pose", is_flag=True, help="With the arms stretched out, instead of the source's pose."
)
@drawing_options
def view(
    sources: tuple[str, ...],
    turn: int | None,
    angles: tuple[float, ...],
    t_pose: bool,
    **drawing: Any,
) -> None:
    """A person is turned on the spot.

    \b
    lwgan view --source front.png --source back.png --weights FILE.safetensors --out around.mp4
    lwgan view --root data/ --source 001/1/1 --turn 60 --t-pose --size 256 \\
        --weights FILE.safetensors --out around.mp4
    lwgan view --root data/ --source 001/1/1 --angle 90 --weights FILE.safetensors --out side.png
    lwgan view --root data/ --source 001/1/1 --angle 0 --angle 90 --angle 180 \\
        --weights FILE.safetensors --out views/
    """
    with plain_errors():
        from lwgan import tasks

        chosen = DrawingOptions(**drawing)
        if turn is not None and angles:
            raise ValueError(
                "--turn and --angle exclude each other: a whole turn, or chosen angles."
            )
        chosen.check_before_reading()
        plan = tasks.view(
            chosen.read_person(sources),
            chosen.load_body(),
            angles=angles or None,
            num_views=turn or tasks.NUM_VIEWS,
            rest_pose=t_pose,
        )
        _draw(chosen, [plan], sources[0], None, ())


# ------------------------------------------------------------------------------------------- drawing


def _draw(
    chosen: DrawingOptions,
    plans: Sequence[Plan],
    source: str,
    driver: NamedFrames | None,
    motion_origin: tuple[str, ...],
) -> None:
    """Draw every plan into its files, and say so; refuses before the first frame what could not be finished.

    Args:
        plans: of the same people, who are encoded once.
        source: the first one, whose scene is drawn.
    """

    from lwgan.memory import check_memory
    from lwgan.outputs import check_output, write_files
    from lwgan.provenance import provenance_of
    from lwgan.synthesis import draw_frames, set_scene

    body, checkpoint = chosen.load_body(), chosen.checkpoint
    device, dtype = chosen.torch_device(), chosen.torch_dtype()
    if chosen.personalize is not None:
        from lwgan.personalization import personalized

        checkpoint = personalized(
            [dressed.person for dressed in plans[0].people],
            checkpoint,
            body,
            preset=chosen.personalize,  # type: ignore[arg-type]
            device=device,
            precision=str(dtype).removeprefix("torch."),  # type: ignore[arg-type]
            tell=chosen.tell,
        )
    background = chosen.read_background(source)
    files = chosen.files([plan.name for plan in plans])
    for own, plan in zip(files, plans, strict=True):
        for path in own.paths():
            check_output(path, len(plan), overwrite=chosen.overwrite)
    num_sources = sum(dressed.person.num_sources for dressed in plans[0].people)
    batch = min(chosen.batch, max(len(plan) for plan in plans))
    chosen.tell(
        check_memory(
            checkpoint.config,
            chosen.size,
            num_sources,
            batch,
            dtype,
            device,
            convention=checkpoint.surface.convention,
            people=len(plans[0].people),
            temporal=chosen.temporal,
        )
    )
    settings = {
        **{name: getattr(chosen, name) for name in ("size", "batch", "temporal")},
        "precision": str(dtype).removeprefix("torch."),
        "device": device,
        "background": chosen.describe_background(plans[0].primary),
        **({} if chosen.personalize is None else {"personalize": chosen.personalize}),
        **(
            {}
            if chosen.hands is None
            else {"hands": Path(chosen.hands).name, "drawn_body": body.source}
        ),
    }
    scene = set_scene(
        plans[0],
        checkpoint,
        body,
        device=device,
        dtype=dtype,
        background=background,  # type: ignore[arg-type]
        folded=not chosen.no_folding,
    )
    written: list[Written] = []
    for plan, own in zip(plans, files, strict=True):
        plan = replace(plan, fps=chosen.fps or plan.fps)
        drawn = draw_frames(
            scene,
            plan.params,
            batch=chosen.batch,
            compile=chosen.compile,
            temporal=chosen.temporal,
        )
        watched = counted(drawn, f"drawing {plan.name}".strip(), len(plan), "frame")
        written += write_files(
            own,
            watched,
            plan.fps,
            provenance_of(
                plan, checkpoint, motion=motion_origin, settings={**settings, "fps": plan.fps}
            ),
            sources=plan.primary.pictures,
            motion=driver.pictures(plan.motion_frames, chosen.size) if driver else None,
            sidecar=not chosen.no_sidecar,
            overwrite=chosen.overwrite,
        )
    _report(chosen, checkpoint, written)


def _report(chosen: DrawingOptions, checkpoint: Checkpoint, written: Sequence[Written]) -> None:
    is_random = checkpoint.origin.how == "random"
    if chosen.as_json:
        print_json(
            outputs=[
                {
                    "path": str(one.path),
                    "frames": one.num_frames,
                    "sidecar": None if one.sidecar is None else str(one.sidecar),
                }
                for one in written
            ],
            size=chosen.size,
            weights=checkpoint.name,
            weights_sha256=checkpoint.sha256,
            random_weights=is_random,
            synthetic=True,
        )
        return
    for one in written:
        frames = "1 picture" if one.num_frames == 1 else f"{one.num_frames} frames"
        note = ", of a network with random weights" if is_random else ""
        click.echo(f"{one.path}: {frames}{note}")


def _refuse_without_motion(*names: str) -> None:
    """What was typed must mean something: these options are about the motion."""
    context = click.get_current_context()
    for name in names:
        source = context.get_parameter_source(name)
        if source is click.core.ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{option} is about a motion, and there is none. Add --motion, or drop {option}."
            )


def _parse_stop(text: str) -> tuple[int, int]:
    """ "20:60" -> (20, 60)."""
    frame, _, duration = text.partition(":")
    if not (frame.isdecimal() and duration.isdecimal()):
        raise ValueError(f"--bullet-time {text}: write FRAME:DURATION, both in frames, as 20:60.")
    return int(frame), int(duration)
