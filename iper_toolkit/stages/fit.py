"""Stage `fit`: the body in every frame, from the dataset's own fit or from keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body.model import OPEN_BODY, SMPL_PREFIX, BodyParams, load_body
from iper_toolkit.keypoints import read_keypoints
from iper_toolkit.layout import frame_files, missing_frames
from iper_toolkit.stages import ClipWork, SourceFacts
from iper_toolkit.stages.plausible import check_error
from iper_toolkit.unpickle import read_fit


@dataclass(frozen=True)
class FittedClip:
    """The fit of T frames and how it came about."""

    params: BodyParams
    source: str
    """official, keypoints or synthetic."""
    valid: NDArray[np.bool_]
    """(T,) the person is there and the numbers are finite."""
    error_pixels: NDArray[np.float32] | None
    """(T,) mean distance to the keypoints in source pixels."""
    keypoints: NDArray[np.float32] | None
    """(T, 25, 3) x, y in source pixels and confidence."""

    def write(self, path: Path) -> None:
        arrays: dict[str, Any] = {
            "body_id": np.array(self.params.body_id),
            "source": np.array(self.source),
            "params": self.params.to_array().numpy(),
            "valid": self.valid,
        }
        if self.error_pixels is not None:
            arrays["error_pixels"] = self.error_pixels
        if self.keypoints is not None:
            arrays["keypoints"] = self.keypoints
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> FittedClip:
        with np.load(path, allow_pickle=False) as archive:
            return cls(
                params=BodyParams.from_array(str(archive["body_id"]), archive["params"]),
                source=str(archive["source"]),
                valid=archive["valid"],
                error_pixels=archive.get("error_pixels"),
                keypoints=archive.get("keypoints"),
            )


def run(work: ClipWork) -> None:
    """Makes ``fit.npz`` (see `FittedClip`)."""
    fitted = _given(work) if work.clip.fit is not None else _from_keypoints(work)
    fitted.write(work.folder / "fit.npz")


def _given(work: ClipWork) -> FittedClip:
    path, facts = work.clip.fit, work.source_facts()
    assert path is not None  # `run` asked
    content = read_fit(path)
    camera = content["cams"]
    _check_length(len(camera), "cams in", path, work, facts)
    flat = np.flatnonzero(camera[:, 0] <= 0)
    if len(flat):
        raise ValueError(
            f"{path}: the camera scale of frame {flat[0]} is {camera[flat[0], 0]}; it must be "
            "positive. Get the file again, or remove it to fit the clip from keypoints."
        )
    body_id = _body_id(str(content.get("body_id", "")), path, work)
    marked = bool(content.get("synthetic", False))
    if marked != work.info.synthetic:
        one, other = ("", "not ") if marked else ("not ", "")
        raise ValueError(
            f"{path} is {one}marked as synthetic, but dataset.toml says the root is {other}"
            "synthetic. Keep synthetic and real clips in different roots."
        )
    array = np.concatenate([camera, content["pose"], content["shape"]], axis=1)
    keypoints = None
    if work.clip.keypoints is not None:
        keypoints = read_keypoints(work.clip.keypoints).body25
        _check_length(len(keypoints), "keypoints of", work.clip.keypoints, work, facts)
    return FittedClip(
        params=BodyParams.from_array(body_id, array),
        source="synthetic" if marked else "official",
        valid=np.ones(len(camera), bool),
        error_pixels=None,
        keypoints=keypoints,
    )


def _check_length(length: int, what: str, path: Path, work: ClipWork, facts: SourceFacts) -> None:
    if length == facts.num_frames:
        return
    absent: list[str] = []
    if work.clip.kind == "frames":
        absent = missing_frames(frame_files(work.clip.source))
    hint = f" Missing: {', '.join(absent[:5])}." if absent else ""
    raise ValueError(
        f"{what} {path}: {length} frames; {work.clip.source} has {facts.num_frames}.{hint} Both "
        "must come from the same cut of the clip."
    )


def _body_id(named: str, path: Path, work: ClipWork) -> str:
    """Which body a fit was made for; refuses to take it for another's."""
    body = load_body(work.options.body)
    said = named or work.info.body_id
    if said:
        if said == body.id:
            return said
        raise ValueError(
            f"{path} was made for body {said}; this run uses {body.id}. Pass the body it was made "
            f"for: --body {'open' if said == OPEN_BODY else 'PATH/TO/SMPL_NEUTRAL.pkl'}"
        )
    if body.id.startswith(SMPL_PREFIX):
        return body.id  # official pickles name no body: they are SMPL's
    raise ValueError(
        f"{path} names no body, as iPER's official fits do: they are SMPL's, and another body must "
        "not be posed with them. Get SMPL (smpl.is.tue.mpg.de, its own licence) and pass "
        "--body PATH/TO/SMPL_NEUTRAL.pkl; or, if another body was fitted, write its id into "
        f'dataset.toml: body_id = "{OPEN_BODY}"'
    )


def _from_keypoints(work: ClipWork) -> FittedClip:
    from iper_toolkit.body.fitting import fit_clip

    path, facts = work.clip.keypoints, work.source_facts()
    assert path is not None  # the crop stage refuses clips that have neither fit nor keypoints
    keypoints = read_keypoints(path)
    _check_length(len(keypoints), "keypoints in", path, work, facts)
    fit = fit_clip(load_body(work.options.body), keypoints, work.crop(), fps=facts.fps)
    finite = torch.isfinite(fit.params.to_array()).all(1).numpy()
    if not finite.all():
        raise ValueError(f"No body could be fitted to {path}: look at its keypoints.")
    check_error(np.asarray(fit.error_pixels, np.float32), keypoints.boxes(), path)
    return FittedClip(
        params=fit.params,
        source="keypoints",
        valid=np.asarray(fit.valid, bool),
        error_pixels=np.asarray(fit.error_pixels, np.float32),
        keypoints=keypoints.body25,
    )
