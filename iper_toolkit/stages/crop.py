"""Stage `crop`: one square a clip, in source pixels."""

from __future__ import annotations

from dataclasses import asdict

from iper_toolkit.crop import SquareCrop, crop_around
from iper_toolkit.keypoints import read_keypoints
from iper_toolkit.stages import ClipWork, write_json
from iper_toolkit.stages.plausible import check_keypoints, check_person_size


def run(work: ClipWork) -> None:
    """Makes ``crop.json``.

    Official fits have their cameras in NDC of the whole frame, so their crop is the whole frame;
    else it is the square around the person in all frames, with a margin for hair and hands.
    """
    facts, clip = work.source_facts(), work.clip
    if clip.fit is not None:
        crop = SquareCrop.whole(facts.width, facts.height)
    elif clip.keypoints is not None:
        keypoints = read_keypoints(clip.keypoints)
        size = (facts.height, facts.width)
        try:
            crop = crop_around(keypoints.boxes(), size, work.options.crop_factor)
        except ValueError as error:
            raise ValueError(f"{clip.keypoints}: {error}") from None
        check_keypoints(keypoints.body25, size, clip.keypoints)
        check_person_size(crop.side / work.options.crop_factor, clip.keypoints)
    else:
        name = clip.source.name if clip.kind == "frames" else clip.source.stem
        raise ValueError(
            f"{clip.source} has neither a fit nor keypoints. Put the keypoints beside it as "
            f"{name}.json (OpenPose BODY_25 or MediaPipe's 33 landmarks) or {name}_keypoints/ "
            f"(OpenPose, one json a frame), or iPER's fit at "
            f"smpls/{clip.clip_id}/pose_shape.pkl."
        )
    write_json(work.folder / "crop.json", asdict(crop))
