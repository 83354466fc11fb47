"""Mixed precision on a CPU, and the layers that it leaves in float32."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from hordet.engine import runner as run
from hordet.engine.amp import Float32Hook, keep_float32
from hordet.engine.prepare import prepare_training
from hordet.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_amp_on_a_cpu_is_bfloat16():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = OPTIM_WRAPPERS.build({"type": "hordet.Bfloat16OptimWrapper", "optimizer": optimizer})
    before = model.weight.clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(1, 2))
    assert output.dtype == torch.bfloat16 and model.weight.dtype == torch.float32
    wrapper.update_params(output.float().sum())
    assert not torch.equal(before, model.weight)


@pytest.mark.parametrize(
    ("amp", "cuda", "bfloat16", "expected"),
    [
        ("auto", False, False, "hordet.Bfloat16OptimWrapper"),
        ("auto", True, True, "hordet.Bfloat16OptimWrapper"),
        ("auto", True, False, "AmpOptimWrapper"),
        ("float16", True, True, "AmpOptimWrapper"),
        ("bfloat16", True, True, "hordet.Bfloat16OptimWrapper"),
    ],
)
def test_the_precision_of_a_device(monkeypatch, amp, cuda, bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bfloat16)
    before = dict(type="AmpOptimWrapper", loss_scale=512.0, dtype="bfloat16")
    cfg = Config(dict(optim_wrapper=before))
    prepare_training(cfg, amp=amp)
    assert cfg.optim_wrapper.type == expected
    assert cfg.optim_wrapper.get("dtype") == ("float16" if expected == "AmpOptimWrapper" else None)
    assert cfg.optim_wrapper.get("loss_scale") == (
        "dynamic" if expected == "AmpOptimWrapper" else None
    )


def test_float16_without_a_gpu_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="float16 needs a CUDA device; --amp bfloat16"):
        prepare_training(Config(dict(optim_wrapper=dict(type="OptimWrapper"))), amp="float16")


@pytest.mark.parametrize(
    "leaf, expected",
    [
        (
            "shapes/mask-rcnn_hornet-nano_horfpn_7e.py",
            {f"neck.fpn_convs.{i}.proj_out" for i in range(4)}
            | {"rpn_head.rpn_cls", "rpn_head.rpn_reg", "roi_head.mask_head.conv_logits"}
            | {"roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg"},
        ),
        (
            "shapes/upernet_hornet-nano_horuperhead_1k.py",
            {"decode_head.conv_seg", "auxiliary_head.conv_seg"},
        ),
    ],
)
def test_the_layers_of_a_config(tmp_path, leaf, expected):
    cfg = run.read_config(CONFIGS / leaf, tiny=True, work_dir=str(tmp_path))
    assert set(_kept(run.build_training_runner(cfg))) == expected


def test_the_config_key(tmp_path):
    path = CONFIGS / "shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
    options = {"float32_modules": ["*fc_cls"]}
    cfg = run.read_config(path, tiny=True, options=options, work_dir=str(tmp_path))
    assert _kept(run.build_training_runner(cfg)) == ["roi_head.bbox_head.fc_cls"]


def _kept(runner):
    """The layers whose forward is not their class's when the run begins."""
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, Float32Hook)]
    hook.before_run(runner)
    return [name for name, module in runner.model.named_modules() if "forward" in vars(module)]


def test_float32_inside_autocast_and_no_change_outside():
    torch.manual_seed(0)
    model = nn.ModuleDict(dict(conv=nn.Conv2d(4, 8, 3), conv_logits=nn.Conv2d(8, 2, 1)))
    keys, x = list(model.state_dict()), torch.randn(1, 4, 6, 6)
    plain = model.conv_logits(model.conv(x))
    assert keep_float32(model) == ["conv_logits"]
    assert list(model.state_dict()) == keys
    assert torch.equal(model.conv_logits(model.conv(x)), plain)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.conv(x)
        logits = model.conv_logits(features)
    assert features.dtype == torch.bfloat16 and logits.dtype == torch.float32
    layer = model.conv_logits
    expected = torch.einsum("nchw,oc->nohw", features.float(), layer.weight[..., 0, 0])
    torch.testing.assert_close(logits, expected + layer.bias[:, None, None])
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_layers_inside_a_named_module():
    model = nn.ModuleDict(dict(cls_branches=nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])))
    assert keep_float32(model, ["cls_branches"]) == ["cls_branches.0"]
    assert keep_float32(model, []) == []


def test_a_copy_computes_with_its_own_weights():
    model = nn.ModuleDict(dict(fc_cls=nn.Linear(3, 2)))
    keep_float32(model)
    average = copy.deepcopy(model)
    with torch.no_grad():
        average.fc_cls.weight.zero_()
        average.fc_cls.bias.fill_(5.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(average.fc_cls(torch.ones(1, 3)), torch.full((1, 2), 5.0))


@pytest.mark.parametrize("mixed", [True, False])
def test_fp16_of_a_test_is_bfloat16_on_every_device(tmp_path, cache_folder, mixed):
    """mmengine takes torch's type of the device: on CUDA that is float16."""
    options = {"test_cfg.fp16": mixed, "val_cfg.fp16": mixed}
    cfg = run.read_config(
        CONFIGS / "shapes/upernet_hornet-nano_horuperhead_1k.py",
        tiny=True,
        options=options,
        work_dir=str(tmp_path),
    )
    names = ["hordet.ValLoop", "hordet.TestLoop"] if mixed else ["ValLoop", "TestLoop"]
    assert [cfg.val_cfg.type, cfg.test_cfg.type] == names
    runner = run.build_test_runner(cfg, None)
    seen = []
    step = runner.model.test_step

    def look(data):
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        seen.append(torch.get_autocast_dtype("cuda"))
        return step(data)

    runner.model.test_step = look
    runner.test()
    assert seen[:2] == [
        (mixed, torch.bfloat16),
        torch.bfloat16 if mixed else torch.float16,
    ]
    assert torch.get_autocast_dtype("cuda") == torch.float16


def test_deformable_attention_samples_at_float32_locations(monkeypatch):
    """As on a GPU, where mmcv hands its operator locations of the values' dtype."""
    import mmcv.ops.multi_scale_deform_attn as attention

    given = []
    kernel = attention.ext_module.ms_deform_attn_forward

    def look(value, shapes, starts, locations, weights, **options):
        given.append(locations)
        return kernel(value, shapes, starts, locations, weights, **options)

    # mmcv takes the road of a GPU for MLUs as well, and no MLU is needed to be asked.
    monkeypatch.setattr(attention, "IS_MLU_AVAILABLE", True)
    monkeypatch.setattr(torch.Tensor, "is_mlu", True, raising=False)
    monkeypatch.setattr(attention.ext_module, "ms_deform_attn_forward", look)
    torch.manual_seed(0)
    layer = attention.MultiScaleDeformableAttention(8, 2, 1, 2, dropout=0.0, batch_first=True)
    torch.nn.init.normal_(layer.sampling_offsets.weight, std=0.5)
    layer.train(False)
    shapes, starts = torch.tensor([[2, 128]]), torch.tensor([0])
    inputs = dict(
        query=torch.randn(1, 64, 8),
        value=torch.randn(1, 256, 8),
        reference_points=torch.rand(1, 64, 1, 2),
        spatial_shapes=shapes,
        level_start_index=starts,
    )
    model = nn.ModuleDict(dict(attn=layer))
    keep_float32(model)
    layer(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        layer(**inputs)
    exact, mixed = given
    assert mixed.dtype == torch.float32
    pixels = (mixed - exact).abs().max() * 128
    assert pixels < 1e-3  # offsets in bfloat16 miss by some 0.01, locations by more than 0.2
