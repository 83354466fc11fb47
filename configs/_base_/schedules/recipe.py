"""What a training may do beyond its pipeline and schedule; all off, one key each.

Switch one on by `--cfg-options recipe.ema=True`. docs/training.md says what each does.
"""

recipe = dict(
    ema=False,
    large_scale_jitter=False,
    copy_paste=False,
    mosaic=False,
    color_jitter=False,
    repeat_rare_classes=False,
    balance_classes=False,
    early_stopping=False,
    max_minutes=None,
    fit_batch_size=False,
)
