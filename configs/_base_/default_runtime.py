"""What every run shares, whatever its task: logs, checkpoints, hooks, environment, seed."""

_base_ = ["hooks.py", "schedules/recipe.py"]

custom_imports = dict(imports=["hordet.registry"])

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # The last three and the best; a schedule names its metric in `save_best`.
    checkpoint=dict(type="hordet.CheckpointHook", interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)

visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"

env_cfg = dict(
    cudnn_benchmark=False,  # images of many sizes
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
# Drop path and sampling differ from process to process; the initial weights are process 0's.
randomness = dict(seed=0, diff_rank_seed=True)
load_from = None
resume = False
