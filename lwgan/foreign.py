"""Weights of the reference program (iPERCore) enter here, by tables that rename their keys.

A key that no rule knows, one that is missing and one of another shape are refused by name, so a
file is taken whole or not at all. What a file does not say cannot be taken from it: AddLWB and
AvgLWB have the same weights, as have the two SoftGate generators, and a temporal generator has
those of a plain one.

Weights of the ICCV 2019 program (impersonator) are not taken. No list of their keys is known to
us, and they would be drawn wrongly even if they fitted: their networks see texture coordinates in
[0, 1], the source picture warped directly, one source, and flows sampled with corners aligned.
"""

import pickle
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lwgan.checkpoints import (
    DTYPES,
    SUFFIX,
    CheckpointError,
    Origin,
    blueprint,
    misfit,
    save_checkpoint,
    shorten,
    variant_of,
)
from lwgan.discriminators import Discriminator, DiscriminatorConfig, Layout, build_discriminator
from lwgan.generators import PRESETS, REFERENCE_NAMES, GeneratorConfig, build_generator
from lwgan.generators.config import BASELINES, Fusion
from lwgan.surface_tables import SurfaceTables

# Rules: (name of a module there, its name here). "#" is a number and stays what it is; the name of
# the tensor itself (weight, bias, running_mean, ...) follows and stays as well.
Rules = tuple[tuple[str, str], ...]


def _auto_encoder(theirs: str, ours: str) -> Rules:
    return (
        (f"{theirs}.encoders.layers.#.0", f"{ours}.encoder.#"),
        (f"{theirs}.res_blocks.#.main.0", f"{ours}.residual.#.first"),
        (f"{theirs}.res_blocks.#.main.2", f"{ours}.residual.#.second"),
        (f"{theirs}.decoders.layers.#.0", f"{ours}.decoder.#"),
        (f"{theirs}.img_reg.0", f"{ours}.image_head"),
        (f"{theirs}.att_reg.0", f"{ours}.mask_head"),
    )


def _fusion(theirs: str, ours: str) -> Rules:
    return (
        (f"{theirs}.#.fq", f"{ours}.#.query"),
        (f"{theirs}.#.fk", f"{ours}.#.key"),
        (f"{theirs}.#.fv", f"{ours}.#.value"),
        (f"{theirs}.#.spade.mlp_shared.0", f"{ours}.#.spade.shared"),
        (f"{theirs}.#.spade.mlp_gamma", f"{ours}.#.spade.gamma"),
        (f"{theirs}.#.spade.mlp_beta", f"{ours}.#.spade.beta"),
        (f"{theirs}.#.gate_conv.0", f"{ours}.#.gate.0"),
        (f"{theirs}.#.gate_conv.2", f"{ours}.#.gate.1"),
    )


GENERATOR_RULES: Rules = (
    ("bg_net.main.#.main.0", "background.layers.#.first"),
    ("bg_net.main.#.main.3", "background.layers.#.second"),
    ("bg_net.main.#", "background.layers.#"),
    *_auto_encoder("src_net", "source"),
    ("tsf_net_enc.layers.#.0", "target.encoder.#"),
    ("res_blocks.#.main.0", "target.residual.#.first"),
    ("res_blocks.#.main.2", "target.residual.#.second"),
    ("tsf_net_dec.upconvs.#.0", "target.up.#"),
    ("tsf_net_dec.skippers.#.0", "target.skip.#"),
    ("tsf_img_reg.0", "target.image_head"),
    ("tsf_att_reg.0", "target.mask_head"),
    *_fusion("enc_attlwbs", "fusion.encoder"),
    *_fusion("res_attlwbs", "fusion.residual"),
    *_auto_encoder("tsf_net", "network"),  # the baselines' one network
)

DISCRIMINATOR_RULES: Rules = (
    ("global_model.model.#", "judges.global.layers.#"),
    ("local_model.model.#", "judges.local.layers.#"),
    ("body_model.model.#", "judges.body.layers.#"),
    ("head_model.model.#", "judges.head.layers.#"),
    ("bg_model.model.#", "judges.background.layers.#"),
    ("scale_models.0.model.#", "judges.full_size.layers.#"),
    ("scale_models.1.model.#", "judges.half_size.layers.#"),
)

# One patch network alone is our discriminator with the global judge only.
PATCH_RULES: Rules = (("model.#", "judges.global.layers.#"),)


def rename(key: str, rules: Rules) -> str | None:
    """Our name of a tensor of theirs; None if no rule knows it."""
    module, _, leaf = key.rpartition(".")
    for theirs, ours in rules:
        numbers = re.fullmatch(re.escape(theirs).replace(r"\#", r"(\d+)"), module)
        if numbers:
            return f"{ours.replace('#', '{}').format(*numbers.groups())}.{leaf}"
    return None


def reversed_rules(rules: Rules) -> Rules:
    """The way back: their name of a tensor of ours."""
    return tuple((ours, theirs) for theirs, ours in rules)


@dataclass(frozen=True)
class ImportedWeights:
    """What `import_weights` did."""

    file: Path  # the original
    sha256: str  # of the original
    out: Path
    variant: str  # a name of PRESETS
    config: GeneratorConfig
    parameters: int


def import_weights(
    file: str | Path,
    out: str | Path,
    *,
    tables: SurfaceTables,
    variant: str | None = None,
    temporal: bool = False,
    dtype: str = "float32",
) -> ImportedWeights:
    """Convert a generator's .pth file of the reference program to one of ours.

    Args:
        file: a state_dict as torch saves it. It is read as data; a file that wants to run code is
            refused.
        out: the .safetensors file to write, which keeps name and sha256 of `file`.
        tables: of the body that the weights were trained on, in the "reference" convention.
        variant: which generator it is, a name of PRESETS or of the reference program; needed only
            where the weights do not tell.
        temporal: whether it was trained to attend to the frame before as well.
        dtype: a key of DTYPES, to store in.

    Raises:
        FileNotFoundError: no file. CheckpointError: it holds something else, or does not fit.
        ValueError: an unknown variant or dtype, or tables of another convention.
    """
    file, out = Path(file), Path(out)
    if dtype not in DTYPES:
        raise ValueError(f"Unknown dtype {dtype!r}. Choose one of: {', '.join(DTYPES)}.")
    if tables.convention != "reference":
        raise ValueError(
            "Weights of the reference program were trained on condition maps of the 'reference' "
            f"convention; these tables follow the {tables.convention!r} one."
        )
    weights = read_state_dict(file)
    config = infer_config(weights, str(file), variant=variant, temporal=temporal)
    with torch.device("meta"):
        generator = build_generator(config)
    generator.load_state_dict(
        _translate(weights, GENERATOR_RULES, blueprint(config), f"{file} as {variant_of(config)}"),
        assign=True,
    )
    with file.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    origin = Origin("imported", file=file.name, sha256=digest)
    save_checkpoint(out, generator, surface=tables.id, origin=origin, dtype=DTYPES[dtype])
    parameters = sum(tensor.numel() for tensor in weights.values())
    return ImportedWeights(file, digest, out, variant_of(config), config, parameters)


def read_discriminator(file: str | Path, *, sigmoid: bool = False) -> Discriminator:
    """A discriminator of the reference program, built as its keys and shapes say.

    Args:
        file: a state_dict as torch saves it; read as data.
        sigmoid: whether its verdicts are in (0, 1). Its weights do not tell; by default they are
            not.

    Raises:
        FileNotFoundError: no file. CheckpointError: it holds something else, or does not fit.
    """
    file = Path(file)
    weights = read_state_dict(file)
    rules = PATCH_RULES if any(rename(key, PATCH_RULES) for key in weights) else DISCRIMINATOR_RULES
    config = _infer_discriminator(weights, rules, str(file), sigmoid)
    discriminator = build_discriminator(config)
    wanted = discriminator.state_dict()
    discriminator.load_state_dict(
        _translate(weights, rules, wanted, f"{file} as a discriminator ({config.layout})")
    )
    return discriminator


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """The tensors of a .pth file by their keys, without the "module." of parallel training.

    Raises:
        FileNotFoundError: no file. CheckpointError: it is cut off, wants to run code, or holds
            something other than one network's tensors.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file} to import.")
    if file.suffix.lower() == SUFFIX:
        raise CheckpointError(
            f"{file} is a {SUFFIX} file, as lwgan itself writes them; the reference program writes .pth files. If "
            "it is lwgan's, it needs no import: pass it as --weights."
        )
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # a broken archive can raise nearly anything from inside the reader
        raise CheckpointError(_refusal(file, error)) from error
    return _network_of(file, content)


def _refusal(file: Path, error: Exception) -> str:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and asked:
        return (
            f"{file} is refused, and nothing of it was run: it asks for {asked[1]}, where weights "
            "are tensors by name and nothing else. If you trust its author, load it yourself and "
            "save the network's state_dict() alone."
        )
    return (
        f"{file} is cut off, or no file that torch.save made of a state_dict. Nothing of it was "
        "run. Get it again."
    )


def _network_of(file: Path, content: Any) -> dict[str, Tensor]:
    """One network's tensors, if that is what the file holds."""
    if isinstance(content, dict) and {"state", "param_groups"} <= content.keys():
        raise CheckpointError(
            f"{file} holds an optimiser's state. Import the network's own file, which the "
            "reference program saves beside it."
        )
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{file} holds a {type(content).__name__}; it takes a network's state_dict: tensors by "
            "name."
        )
    others = [
        f"{key} ({type(value).__name__})"
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if others:
        raise CheckpointError(
            f"{file} holds other things than tensors by name: {shorten(others)}. It takes a "
            "network's state_dict alone."
        )
    weights = {key.removeprefix("module."): tensor for key, tensor in content.items()}
    if len(weights) < len(content):
        raise CheckpointError(f"{file} has keys twice, once with and once without 'module.'.")
    if broken := [key for key, tensor in weights.items() if not tensor.isfinite().all()]:
        raise CheckpointError(
            f"{file} holds numbers that are not finite: {shorten(broken)}. Get it again, or take "
            "one that was saved earlier."
        )
    return weights


def infer_config(
    weights: Mapping[str, Tensor],
    name: str,
    *,
    variant: str | None = None,
    temporal: bool = False,
) -> GeneratorConfig:
    """What generator the reference program's weights belong to, from their keys and shapes.

    Where a telling key is missing its usual width is taken; `import_weights` then names the key.

    Args:
        weights: by their keys. name: of the file, for messages.
        variant, temporal: as of `import_weights`.
    """
    if not any(rename(key, GENERATOR_RULES) for key in weights):
        raise CheckpointError(_not_a_generator(weights, name))
    chosen = _choose(_kinds(weights), variant, name)
    usual = PRESETS[chosen]
    encoder = "tsf_net.encoders" if usual.fusion in BASELINES else "tsf_net_enc"
    inputs = _size(weights, "tsf_net.encoders.layers.0.0.weight", axis=1)
    return GeneratorConfig(
        fusion=usual.fusion,
        background_network=usual.background_network,
        background_channels=tuple(
            _width(weights, f"bg_net.main.{3 * level}", f"bg_net.main.{3 * (level + 1)}", width)
            for level, width in enumerate(usual.background_channels)
        ),
        background_blocks=_count(weights, r"bg_net\.main\.(\d+)\.main\..*", first=12)
        or usual.background_blocks,
        channels=tuple(
            _size(weights, f"{encoder}.layers.{level}.0.weight") or width
            for level, width in enumerate(usual.channels)
        ),
        residual_blocks=_count(weights, r"(?:tsf_net\.)?res_blocks\.(\d+)\..*")
        or usual.residual_blocks,
        spade_hidden=_size(weights, "enc_attlwbs.0.spade.mlp_shared.0.weight")
        or usual.spade_hidden,
        num_sources=max(1, (inputs - 3) // 6)
        if inputs and usual.fusion == "input-concat"
        else usual.num_sources,
        temporal=temporal,
    )


# A part of a key that only these fusions have, the most telling first.
_SIGNS: tuple[tuple[str, tuple[Fusion, ...]], ...] = (
    (".spade.", ("attention-spade",)),
    (".gate_conv.", ("soft-gate-add", "soft-gate-mean")),
    (".fq.", ("attention-adain",)),
)


def _kinds(weights: Mapping[str, Tensor]) -> list[str]:
    """The names of PRESETS that these weights may belong to; one at least."""
    fusions = _fusions(weights)
    background = any(key.startswith("bg_net.") for key in weights)
    kinds = [preset for preset, config in PRESETS.items() if config.fusion in fusions]
    # Only AttLWB-SPADE does without a background network; elsewhere a missing one is a hole.
    return [preset for preset in kinds if PRESETS[preset].background_network == background] or kinds


def _fusions(weights: Mapping[str, Tensor]) -> tuple[Fusion, ...]:
    """The fusions that these weights may belong to."""
    if any(key.startswith("tsf_net.") for key in weights):
        inputs = _size(weights, "tsf_net.encoders.layers.0.0.weight", axis=1)
        return ("texture-warping",) if inputs == 6 else ("input-concat",)
    for sign, fusions in _SIGNS:
        if any(sign in key for key in weights):
            return fusions
    return ("add", "mean")


def _choose(kinds: Sequence[str], variant: str | None, name: str) -> str:
    """The one of `kinds`, names of PRESETS, that is meant."""
    wanted = REFERENCE_NAMES.get(variant, variant) if variant else None
    if wanted is not None and wanted not in PRESETS:
        raise ValueError(f"Unknown generator {variant!r}. Choose one of: {', '.join(PRESETS)}.")
    if wanted is None and len(kinds) > 1:
        raise CheckpointError(
            f"The weights in {name} may be of {' or '.join(kinds)}, which have the same keys. Say "
            f"which they are: --variant {kinds[0]}, for example."
        )
    if wanted is not None and wanted not in kinds:
        raise CheckpointError(f"{name} holds weights of {' or '.join(kinds)}, not of {wanted}.")
    return wanted or kinds[0]


def _infer_discriminator(
    weights: Mapping[str, Tensor], rules: Rules, name: str, sigmoid: bool
) -> DiscriminatorConfig:
    """As `infer_config`. All judges are alike, so the one with most to tell speaks for all."""
    ours = {renamed: tensor for key, tensor in weights.items() if (renamed := rename(key, rules))}
    judges = {key.split(".")[1] for key in ours}
    kernels: dict[str, list[Tensor]] = {
        judge: [
            tensor
            for key, tensor in ours.items()
            if key.startswith(f"judges.{judge}.") and tensor.ndim == 4
        ]
        for judge in judges
    }
    speaker = max(kernels, key=lambda judge: len(kernels[judge]), default="")
    if not judges or len(kernels[speaker]) < 3:
        raise CheckpointError(
            f"{name} holds no discriminator of the reference program; its keys are "
            f"{shorten(list(weights))}."
        )
    first = {judge: convolutions[0] for judge, convolutions in kernels.items() if convolutions}
    halvings = len(kernels[speaker]) - 2
    width = first[speaker].shape[0]
    widest = max(kernel.shape[0] for kernel in kernels[speaker])
    usual = DiscriminatorConfig()
    capped = widest < width * 2**halvings

    def channels_of(judge: str, otherwise: int) -> int:
        return first[judge].shape[1] if judge in first else otherwise

    return DiscriminatorConfig(
        layout=next(layout for judge, layout in _LAYOUTS if judge <= judges),
        width=width,
        max_widening=widest // width if capped else max(usual.max_widening, 2**halvings),
        halvings=halvings,
        norm="batch" if any(key.endswith("running_mean") for key in ours) else "instance",
        sigmoid=sigmoid,
        channels=channels_of("global", usual.channels),
        background_channels=channels_of("background", 4) if "background" in judges else None,
        scale_channels=channels_of("full_size", usual.scale_channels),
    )


# The judges that tell a layout, the most telling first.
_LAYOUTS: tuple[tuple[set[str], Layout], ...] = (
    ({"full_size", "global"}, "global-multi-scale"),
    ({"full_size"}, "multi-scale"),
    ({"body"}, "global-body-head"),
    ({"head"}, "global-body-head"),
    ({"local"}, "global-local"),
    (set(), "global"),
)


def _translate(
    weights: Mapping[str, Tensor], rules: Rules, wanted: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """Their tensors under our names, if they are all there and nothing else; else say which are not."""
    back = reversed_rules(rules)
    theirs = {str(rename(key, back)): tensor for key, tensor in wanted.items()}
    if problem := misfit(theirs, weights):
        raise CheckpointError(
            f"{name} does not fit: {problem}. It is taken whole or not at all; get a file of the "
            "reference program's network as it was saved."
        )
    return {str(rename(key, rules)): tensor for key, tensor in weights.items()}


def _not_a_generator(weights: Mapping[str, Tensor], name: str) -> str:
    if any(rename(key, (*DISCRIMINATOR_RULES, *PATCH_RULES)) for key in weights):
        return (
            f"{name} holds a discriminator, which only training needs. Import the generator's "
            "file: the reference program calls it ..._id_G.pth."
        )
    return (
        f"{name} is no generator of iPERCore: no rule knows any of its keys "
        f"({shorten(list(weights))}). Take one of {', '.join(REFERENCE_NAMES)}. Weights of the "
        "ICCV 2019 program (impersonator) cannot be imported: its keys are not known here, and its "
        "networks take other inputs."
    )


def _size(weights: Mapping[str, Tensor], key: str, axis: int = 0) -> int:
    """Length of a convolution's kernel along an axis; 0 if there is none."""
    return weights[key].shape[axis] if key in weights and weights[key].ndim == 4 else 0


def _width(weights: Mapping[str, Tensor], layer: str, following: str, usual: int) -> int:
    """Channels between two layers as most have it, so that a damaged one is blamed itself."""
    found = (
        _size(weights, f"{layer}.weight"),
        _size(weights, f"{following}.weight", axis=1),
        usual,
    )
    return Counter(width for width in found if width).most_common(1)[0][0]


def _count(weights: Mapping[str, Tensor], pattern: str, first: int = 0) -> int:
    """How many blocks are numbered from `first` on, no more than there are tensors."""
    numbers = [int(found[1]) for key in weights if (found := re.fullmatch(pattern, key))]
    return min(max(numbers) - first + 1, len(weights)) if numbers else 0
