"""Training with parameters, gradients and optimizer states split among the processes."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import mmengine
import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.runner import save_checkpoint
from packaging.version import Version
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from hordet.checkpoints import WHOLE_FILES, gather_shards, shard_like
from hordet.errors import ConfigError
from hordet.registry import STRATEGIES

# Parts whose parameters are gathered only for their own passes.
SPLIT_MODULES = ("backbone", "neck")


@STRATEGIES.register_module()
class FullyShardedStrategy(DDPStrategy):
    """torch's `fully_shard` (FSDP2; after Zhao et al., PyTorch FSDP, VLDB 2023) for FlexibleRunner.

    In a config, `runner_type="FlexibleRunner"` and
    `strategy=dict(type="hordet.FullyShardedStrategy")`. Unlike mmengine's FSDPStrategy it runs on a
    CPU too, names of parameters do not change, and checkpoints are those of an ordinary run: one
    whole file, written as by `hordet.CheckpointHook`, from which any number of processes can
    resume, with or without shards.

    Args:
        modules: Names of submodules whose parameters are gathered only for their own passes; those
            of the rest of the model are gathered from its forward pass to the end of its backward
            pass. Each must be a module that is called as a whole.
        **kwargs: mmengine's options.
    """

    def __init__(self, *, modules: Sequence[str] = SPLIT_MODULES, **kwargs: Any) -> None:
        """Keep the names."""
        super().__init__(**kwargs)
        self.modules = modules

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        """Split a model in place; every process has the same weights by then."""
        device = get_device()
        if device == "cpu" and Version(torch.__version__) < Version("2.7"):
            raise ConfigError(
                "hordet.FullyShardedStrategy on a CPU needs torch 2.7 or newer, and this is torch "
                f"{torch.__version__}, whose fully_shard fails on a CPU. Upgrade torch, or leave "
                "runner_type and strategy out to train without shards."
            )
        model = self.convert_model(model.to(device))
        mesh = init_device_mesh(device, (get_world_size(),))
        for name in self.modules:
            if getattr(model, name, None) is not None:  # a plain segmentor has no neck
                fully_shard(model.get_submodule(name), mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Gather everything in every process, and write it in process 0; see mmengine."""
        checkpoint = {"state_dict": self.model_state_dict(), **(extra_ckpt or {})}
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, "param_schedulers"):
            checkpoint["param_schedulers"] = self.scheduler_state_dict()
        now = time.strftime("%Y%m%d_%H%M%S", time.localtime())
        meta = dict(seed=self.seed, time=now, mmengine_version=mmengine.__version__)
        checkpoint["meta"] = {**meta, **checkpoint.get("meta", {})}
        if callback is not None:
            callback(checkpoint)
        if is_main_process():
            local = type(get_file_backend(filename)) is LocalBackend
            save_checkpoint(checkpoint, filename, backend_args=WHOLE_FILES if local else None)

    def model_state_dict(self) -> dict:
        """Return the whole weights; every process must call it."""
        return gather_shards(self.model.state_dict())

    def load_model_state_dict(self, state_dict: dict, *, strict: bool = False, **_: Any) -> None:
        """Split whole weights and load them."""
        own = self.model.state_dict()
        shards = {key: shard_like(value, own.get(key)) for key, value in state_dict.items()}
        self.model.load_state_dict(shards, strict=strict)

    def optim_state_dict(self) -> dict:
        """Return the optimizer's whole state; every process must call it."""
        return gather_shards(self.optim_wrapper.state_dict())

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Split the whole state of an optimizer like its parameters, and load it."""
        groups = self.optim_wrapper.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        state_dict["state"] = {
            number: {key: shard_like(value, parameters[number]) for key, value in state.items()}
            for number, state in state_dict["state"].items()
        }
        self.optim_wrapper.load_state_dict(state_dict)
