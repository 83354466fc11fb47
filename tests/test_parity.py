"""Numerical parity with the authors' implementation: outputs, gradients, names, counts.

Weights and inputs are made from names (`rng`), so that only the expected numbers are stored.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hordet.layers import GlobalLocalFilter, GnConv, GnFusion, LayerNorm2d
from hordet.registry import MODELS

EXPECTED = Path(__file__).parent / "expected" / "hornet"
INDEX = json.loads((EXPECTED / "index.json").read_text())
PYRAMID = [16, 32, 64, 128]


def rng(tag):
    return np.random.default_rng(zlib.crc32(tag.encode()))


def recipe_weight(key, shape):
    """The reference's value of a parameter or buffer, a function of its name and shape."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    z = rng(key).standard_normal(shape)
    name = key.rsplit(".", 1)[-1]
    if name == "running_var":
        z = 1 + 0.1 * np.abs(z)
    elif name == "running_mean":
        z = 0.1 * z
    elif name in ("gamma1", "gamma2"):
        z = 0.5 + 0.1 * z
    elif name == "complex_weight":
        z = 0.5 * z
    elif len(shape) == 1:
        z = 1 + 0.1 * z if name == "weight" else 0.1 * z
    else:
        z = z / np.sqrt(np.prod(shape[1:]))
        if ".pws." in "." + key or ".proj_out." in "." + key:
            z = 3 * z
    return torch.from_numpy(np.asarray(z, dtype=np.float32))


def load_recipe(module):
    state = {k: recipe_weight(k, tuple(v.shape)) for k, v in module.state_dict().items()}
    module.load_state_dict(state)
    crc = 0
    for key in sorted(state):
        crc = zlib.crc32(state[key].numpy().tobytes(), crc)
    return crc


class Classifier(nn.Module):
    """The authors' classification model: stage 4, mean pool, norm, linear."""

    def __init__(self):
        super().__init__()
        backbone = build("HorNet", arch="tiny", out_indices=(3,))
        self.downsample_layers = backbone.downsample_layers
        self.stages = backbone.stages
        self.norm = nn.LayerNorm(512, eps=1e-6)
        self.head = nn.Linear(512, 1000)

    def forward(self, x):
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
        return self.head(self.norm(x.mean((-2, -1))))


def build(name, **kwargs):
    return MODELS.build(dict(type=f"hordet.{name}", **kwargs))


def block(**kwargs):
    from hordet.hornet import Block

    return Block(32, **kwargs)


OFFICIAL = dict(init="official", skip=False)  # the paper's form


def hor_fpn(in_channels=PYRAMID, out_channels=16, num_outs=5, **kwargs):
    levels = dict(in_channels=in_channels, out_channels=out_channels, num_outs=num_outs)
    return build("HorFPN", **levels, **OFFICIAL, **kwargs)


def hor_fpn_norm(spatial):
    return hor_fpn(
        num_outs=6,
        spatial=spatial,
        add_extra_convs="on_input",
        relu_before_extra_convs=True,
        no_norm_on_lateral=True,
        norm_cfg=dict(type="BN"),
        act_cfg=dict(type="ReLU"),
    )


def hor_uper(spatial):
    return build(
        "HorUPerHead",
        spatial=spatial,
        in_channels=PYRAMID,
        channels=32,
        num_classes=7,
        in_index=[0, 1, 2, 3],
        dropout_ratio=0.0,
        norm_cfg=dict(type="BN"),
        align_corners=False,
        **OFFICIAL,
    )


def micro(spatial):
    arch = dict(base_channels=16, depths=(1, 1, 2, 1), orders=(2, 3, 4, 5))
    return build("HorNet", arch=arch, spatial=spatial)


BUILDERS = {
    "ln_cf": lambda: LayerNorm2d(24),
    "glf": lambda: GlobalLocalFilter(24, gf_size=(14, 8)),
    "block_7x7": lambda: block(order=3),
    "block_nols": None,  # scale 1 there, see below
    "hornet_tiny_7x7": lambda: build("HorNet", arch="tiny"),
    "hornet_tiny_gf14": lambda: build("HorNet", arch="tiny", spatial="gf"),
    "hornet_micro_7x7": lambda: micro("dw7x7"),
    "hornet_micro_gf14": lambda: micro("gf"),
    "cls_tiny_7x7": Classifier,
    "gnfpn64_7x7": lambda: hor_fpn([64, 128, 256, 512], 64),
    "gnfpn256_7x7": lambda: hor_fpn([96, 192, 384, 768], 256),
    "gnfpn256_gf": lambda: hor_fpn([96, 192, 384, 768], 256, spatial="gf"),
    "gnfpn16_7x7_bnrelu": lambda: hor_fpn_norm("dw7x7"),
    "gnfpn16_gf_bnrelu": lambda: hor_fpn_norm("gf"),
    "gnmod_noproj": lambda: GnFusion(24, 16, kernel_size=3, proj_out=False),
    "gnmod_gf": lambda: GnFusion(24, 16, order=3, spatial="gf", gf_size=(10, 6), act=nn.ReLU()),
    "gnuper32_7x7": lambda: hor_uper("dw7x7"),
    "gnuper32_gf": lambda: hor_uper("gf"),
}


def block_without_layer_scale():
    layer = block(order=2, layer_scale_init_value=0)
    layer.gnconv.scale = 1.0
    return layer


BUILDERS["block_nols"] = block_without_layer_scale
for _order in (2, 4, 5):
    BUILDERS[f"gnconv_o{_order}_7x7"] = lambda n=_order: GnConv(32, 32, n, scale=1 / 3)
for _order in (2, 3, 4):
    BUILDERS[f"gnconv_o{_order}_gf"] = lambda n=_order: GnConv(
        32, 32, n, spatial="gf", gf_size=(14, 8), scale=1 / 3
    )
for _spatial, _word in (("dw7x7", "7x7"), ("gf", "gf")):
    BUILDERS[f"gnfpn16_{_word}"] = lambda s=_spatial: hor_fpn(spatial=s)
    for _mode in ("on_input", "on_lateral", "on_output"):
        BUILDERS[f"gnfpn16_{_word}_{_mode}"] = lambda s=_spatial, m=_mode: hor_fpn(
            spatial=s, start_level=1, add_extra_convs=m
        )

CASES = [(name, case) for name, fixture in INDEX.items() for case in fixture["cases"]]


def tensors(prefix, shapes, requires_grad=False):
    return [
        torch.from_numpy(
            rng(f"{prefix}{i}").standard_normal(shape).astype(np.float32)
        ).requires_grad_(requires_grad)
        for i, shape in enumerate(shapes)
    ]


def stored_arrays(name, shared):
    """The stored arrays of a fixture: in this repository, else in the reference folder, or {}."""
    for folder in (EXPECTED, shared / "reference" / "fixtures"):
        if (folder / f"{name}.npz").is_file():
            return np.load(folder / f"{name}.npz")
    return {}


def close(got, want, scale, name, tolerance=1e-4):
    """Compare elementwise: relative 1e-4 and an absolute part relative to the output's std."""
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale, err_msg=name)


def test_every_fixture_has_a_builder():
    assert set(INDEX) == set(BUILDERS) & set(INDEX)
    assert len(CASES) > 40


@pytest.mark.parametrize(("name", "case"), CASES, ids=lambda v: v)
def test_parity(name, case, shared):
    expected = INDEX[name]["cases"][case]
    torch.manual_seed(0)
    module = BUILDERS[name]()
    assert load_recipe(module) == INDEX[name]["weights_crc32"], "other keys or shapes"
    assert sum(p.numel() for p in module.parameters()) == INDEX[name]["n_params"]
    module.train(expected["train"])

    inputs = tensors(f"{name}/{case}/in", expected["inputs"], requires_grad=True)
    # Modules of several inputs take a list; those of one take the tensor.
    outs = module(inputs if len(inputs) > 1 else inputs[0])
    outs = [outs] if isinstance(outs, torch.Tensor) else list(outs)
    assert [list(o.shape) for o in outs] == [o["shape"] for o in expected["outs"]]
    cotangents = tensors(f"{name}/{case}/cot", [o.shape for o in outs])
    loss = sum((o * c).sum() for o, c in zip(outs, cotangents, strict=True))
    loss.backward()

    arrays = stored_arrays(name, shared)
    tolerance = 5e-4 if name == "hornet_tiny_gf14" else 1e-4
    for i, (out, want) in enumerate(zip(outs, expected["outs"], strict=True)):
        full = out.detach().double()
        magnitude = want["stats"][1]
        stats = [full.sum(), full.abs().sum(), full.square().sum()]
        np.testing.assert_allclose(stats[0], want["stats"][0], rtol=0, atol=1e-4 * magnitude)
        np.testing.assert_allclose(stats[1:], want["stats"][1:], rtol=2e-4)
        if f"{case}/out{i}" in arrays:
            s = want["stored_stride"]
            got = out.detach().numpy()
            got = got[..., ::s, ::s] if s > 1 else got
            close(got, arrays[f"{case}/out{i}"], want["std"], f"out{i}", tolerance)
    for i, x in enumerate(inputs):
        if f"{case}/gin{i}" in arrays:
            want = arrays[f"{case}/gin{i}"]
            close(x.grad.numpy(), want, max(want.std(), 1e-12), f"gin{i}", tolerance)

    for key, (total, magnitude) in expected.get("param_grads", {}).items():
        grad = module.get_parameter(key).grad.double()
        # A bias in front of a batch norm has a gradient of rounding noise, some 1e-5.
        np.testing.assert_allclose(grad.abs().sum(), magnitude, rtol=1e-3, atol=2e-4, err_msg=key)
        np.testing.assert_allclose(grad.sum(), total, rtol=0, atol=1e-3 * magnitude + 2e-4)
    for key, value in (expected.get("bn_after") or {}).items():
        np.testing.assert_allclose(module.get_buffer(key).double().sum(), value, rtol=1e-4)


def reference_json(reference, name):
    return json.loads((reference / f"{name}.json").read_text())


def backbone_of(key):
    """Settings of the HorNet that a key of `keys.json` or `variants.json` names."""
    words = key.replace("hornet_", "").split("/")[-1].split("_")
    large_filters = "24x13" in words or "img384" in words
    return dict(
        arch=words[0],
        spatial="gf" if "gf" in words else "dw7x7",
        gf_sizes=((24, 13), (12, 7)) if large_filters else ((14, 8), (7, 4)),
    )


def shapes_of(module, prefix=""):
    return {prefix + k: list(v.shape) for k, v in module.state_dict().items()}


def test_names_and_shapes(reference):
    keys = reference_json(reference, "keys")
    with torch.device("meta"):
        for name, want in keys.items():
            if name.startswith("dense/"):
                assert shapes_of(build("HorNet", **backbone_of(name))) == want, name
            elif name.startswith("cls/"):
                got = shapes_of(build("HorNet", **backbone_of(name)))
                got = {k: v for k, v in got.items() if not k.startswith("norm")}
                rest = {k: v for k, v in want.items() if not k.startswith(("norm.", "head."))}
                assert got == rest, name
            else:
                spatial = "gf" if "_gf" in name else "dw7x7"
                pyramid = [96, 192, 384, 768]
                if "uper" in name:
                    module = build(
                        "HorUPerHead",
                        spatial=spatial,
                        in_channels=pyramid,
                        in_index=[0, 1, 2, 3],
                        channels=512,
                        num_classes=150,
                        norm_cfg=dict(type="BN"),
                        **OFFICIAL,
                    )
                else:
                    extra = dict(start_level=1, add_extra_convs="on_input")
                    module = hor_fpn(
                        pyramid, 256, spatial=spatial, **(extra if "on" in name else {})
                    )
                assert shapes_of(module) == want, name


VARIANTS = [f"hornet_{a}_{s}" for a in ("tiny", "small", "base", "large") for s in ("7x7", "gf")]


@pytest.mark.parametrize("name", [*VARIANTS, "hornet_base_gf_img384", "hornet_large_gf_img384"])
def test_counts(name, reference):
    from mmengine.analysis import get_model_complexity_info

    want = reference_json(reference, "variants")["variants"][name]
    settings = backbone_of(name)
    with torch.device("meta"):
        dense = build("HorNet", **settings)
    form = "plain"
    if "gf" in name:
        form = "gf_24x13" if settings["gf_sizes"][0] == (24, 13) else "gf_14x8"
    assert sum(p.numel() for p in dense.parameters()) == want["dense"][form]["params"]
    # A classification model has one norm and the linear layer in place of the four norms.
    width = dense.out_channels[-1]
    norms = 2 * sum(dense.out_channels)
    classes = want["dense"][form]["params"] - norms + 2 * width + width * 1000 + 1000
    assert classes == want["cls_params"]

    if settings["arch"] in ("tiny", "small"):
        model = build("HorNet", **settings).eval()
        with torch.no_grad():
            info = get_model_complexity_info(
                model, (3, 224, 224), show_table=False, show_arch=False
            )
        np.testing.assert_allclose(info["flops"], want["dense"][form]["flops224_no_fft"], rtol=0.01)
