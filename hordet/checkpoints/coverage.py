"""Fills a model from a checkpoint, and counts how much of the model was filled.

With `strict=False`, torch and mmengine say nothing if no tensor fits. Here every load is counted,
and a checkpoint of another model is an error.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from hordet.checkpoints.download import hide_query
from hordet.checkpoints.fit import NOT_FINITE, describe_unusable, find_unusable
from hordet.checkpoints.load import load_checkpoint
from hordet.checkpoints.places import WEB
from hordet.checkpoints.shards import shard_like
from hordet.checkpoints.weights import is_named
from hordet.errors import CheckpointError, list_first
from hordet.ops.unwrapping import unwrap_model


@dataclass(frozen=True)
class Coverage:
    """How much of a model a checkpoint filled.

    Names are those of the model, except in `unexpected`, which has the names of the file.

    Attributes:
        matched: Number of tensors that were filled.
        total: Number of tensors of the model, or of its backbone if the file has only that.
        missing: Tensors that only the model has.
        unexpected: Tensors that only the checkpoint has.
        mismatched: Tensors that both have, but in different shapes.
        reshaped: Tensors of another shape that the model accepted, such as global filters, which
            it resizes; they count as matched.
        state_dict: The tensors that were filled.
        unusable: Tensors whose values no weights can have, by what is the matter with them: 'NaN
            or infinite values', or a type of whole numbers.
    """

    matched: int
    total: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    reshaped: tuple[str, ...]
    state_dict: OrderedDict[str, Tensor]
    unusable: dict[str, list[str]] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Return the matched share of the tensors, 0 to 1."""
        return self.matched / max(self.total, 1)

    def __str__(self) -> str:
        """Return one line: how many tensors match, and the first names of the others."""
        parts = [f"{self.matched} of {self.total} tensors match"]
        for word, names in (
            ("missing", self.missing),
            ("other shape", self.mismatched),
            ("unexpected", self.unexpected),
            ("reshaped", self.reshaped),
        ):
            if names:
                parts.append(f"{word}: {list_first(names, 3)}")
        return "; ".join(parts)


def load_weights(model: nn.Module, path: str | Path, minimum_share: float = 0.5) -> Coverage:
    """Fill `model` from a file, and count how much of it was filled.

    Understands `{'state_dict': ...}`, `{'model': ...}` and bare dicts, the prefix `module.` of
    parallel training, and files of a backbone alone (or of a whole model, for a backbone).

    Args:
        model: The model, changed in place.
        path: A `.pth` or `.safetensors` file.
        minimum_share: The least share of the model's tensors that must match, 0 to 1. Below 1, a
            file of a backbone alone is compared with the model's backbone alone.

    Returns:
        The coverage.

    Raises:
        CheckpointError: The file cannot be opened, or less than `minimum_share` matches.
    """
    coverage = fill_model(model, load_checkpoint(path), whole=minimum_share >= 1)
    require_coverage(coverage, minimum_share, str(path))
    return coverage


def require_coverage(coverage: Coverage, minimum_share: float, source: str) -> None:
    """Raise unless `coverage` reaches `minimum_share`.

    Raises:
        CheckpointError: It does not; the message says how many tensors matched. Or its values are
            no weights.
    """
    is_enough = coverage.matched and coverage.share >= minimum_share
    if is_enough and not coverage.unusable:
        return
    file = ""
    if is_named(source):  # what is wrong may be its file, not the choice of it
        from hordet.checkpoints.named import find_fault

        file, fault = find_fault(source)
        if fault:
            raise CheckpointError(fault)
    source = f"{hide_query(source) if source.startswith(WEB) else source}{file}"
    if coverage.unusable:
        cure = "write them as floating-point numbers"
        if NOT_FINITE in coverage.unusable:
            cure = "the training that wrote them has diverged: take an earlier checkpoint"
        raise CheckpointError(f"{source} {describe_unusable(coverage.unusable)}; {cure}")
    need = "all are needed" if minimum_share >= 1 else f"at least {minimum_share:.0%} are needed"
    raise CheckpointError(
        f"{source} is of another model: {coverage} ({need}). "
        "Give the checkpoint that this config made, or the config of this checkpoint; "
        "hordet convert renames the files of other projects"
    )


def fill_model(model: nn.Module, checkpoint: dict, whole: bool = False) -> Coverage:
    """Copy every tensor of `checkpoint` that fits into `model`; it is no error if none fits.

    Args:
        model: Any model.
        checkpoint: As torch.load returns it.
        whole: Count every tensor of the model, also if the file is one of a backbone alone. A model
            that predicts needs that: its heads would be random.
    """
    source = get_tensors(checkpoint)
    own = model.state_dict()
    # The file may be of the same model, of its backbone, or of a whole model for a backbone.
    # TimmBackbone and TorchvisionBackbone hold their library's model as `model`.
    prefixes = ("", "backbone.", "model.", "backbone.model.")
    readings = [_rename_tensors(source, prefix.__add__) for prefix in prefixes]
    readings.append(_rename_tensors(source, lambda key: key.removeprefix("backbone.")))
    scores = [
        sum(key in own and own[key].shape == t.shape for key, t in r.items()) for r in readings
    ]
    chosen = scores.index(max(scores))
    best, scope = readings[chosen], (*prefixes, "")[chosen]

    unusable = _find_unusable(model, best)
    for key in best:
        best[key] = shard_like(best[key], own.get(key))
    try:
        result = model.load_state_dict(best, strict=False)
        mismatched: set[str] = set()
    except RuntimeError as error:
        # torch has copied what fits. Only its message names the rest, because a module may accept
        # a tensor of another shape, such as the global filter.
        mismatched = set(re.findall(r"size mismatch for (\S+):", str(error)))
        if not mismatched:
            raise
        for key in mismatched:
            del best[key]
        result = model.load_state_dict(best, strict=False)
    # BatchNorm's counters do not affect predictions, and older files lack them.
    counted = "" if whole else scope
    relevant = {k for k in own if k.startswith(counted) and not k.endswith("num_batches_tracked")}
    missing = tuple(k for k in result.missing_keys if k in relevant and k not in mismatched)
    wrong = tuple(key for key in own if key in mismatched)
    matched = len(relevant) - len(missing) - len(relevant & mismatched)
    unexpected = tuple(key.removeprefix(scope) for key in result.unexpected_keys)
    reshaped = tuple(key for key in own if key in best and best[key].shape != own[key].shape)
    return Coverage(matched, len(relevant), missing, unexpected, wrong, reshaped, best, unusable)


def _find_unusable(model: nn.Module, source: dict[str, Tensor]) -> dict[str, list[str]]:
    """Return the names of tensors that cannot be the model's weights, by what they hold."""
    floating = [name for name, own in model.state_dict().items() if own.is_floating_point()]
    finite = {name for name, _ in model.named_parameters()}
    # Other buffers, such as masks of attention, may be infinite.
    finite.update(name for name in floating if "running_" in name)
    return find_unusable(source, floating, finite)


def get_tensors(checkpoint: dict) -> OrderedDict[str, Tensor]:
    """Return the tensors of a checkpoint by name: of `state_dict`, of `model`, or of the dict.

    Other content is left out, and the prefix `module.` of parallel training is removed.
    """
    for key in ("state_dict", "model"):
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
            break
    return _rename_tensors(checkpoint, lambda key: key.removeprefix("module."))


def _rename_tensors(source: dict, rename: Callable[[str], str]) -> OrderedDict[str, Tensor]:
    result = OrderedDict((rename(k), v) for k, v in source.items() if isinstance(v, Tensor))
    if hasattr(source, "_metadata"):  # by module: `module.neck` stands for the tensors below it
        result._metadata = OrderedDict(  # type: ignore[attr-defined]
            (rename(f"{key}." if key else "").removesuffix("."), value)
            for key, value in source._metadata.items()
        )
    return result


class CoverageHook(Hook):
    """Counts what `load_from`, `resume` or a test fills, and stops at another model's checkpoint.

    mmengine itself only logs it. The engine registers this hook as an object; configs do not name
    it.

    Attributes:
        loaded: The file and its coverage in words, once it is loaded.
    """

    # After hooks that choose which weights to use, such as the EMA hook, which swaps them.
    priority = "LOWEST"

    def __init__(self, source: str, minimum_share: float) -> None:
        """Keep the name of the file, for messages, and the share; see `load_weights`."""
        self.source = source
        self.minimum_share = minimum_share
        self.loaded = ""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Fill the model, log the coverage, and give mmengine only the tensors that fit.

        Raises:
            CheckpointError: Less than `minimum_share` matches.
        """
        model = unwrap_model(runner.model)
        coverage = fill_model(model, checkpoint, whole=self.minimum_share >= 1)
        require_coverage(coverage, self.minimum_share, self.source)
        self.loaded = f"{self.source}: {coverage}"
        runner.logger.info(self.loaded)
        checkpoint["state_dict"] = coverage.state_dict
