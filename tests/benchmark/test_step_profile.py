"""Where a training step's time goes: parts, their backward passes, and what is refused."""

import json

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from hordet.benchmark.step_profile import ELSEWHERE, gather_times, mark_parts
from hordet.cli import main

CONFIG = "shapes/mask-rcnn_hornet-nano_horfpn_7e"


class Two(nn.Module):
    """Two parts of known operators, of which one is called twice, and a sum in neither."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)

    def forward(self, x):
        x = self.first(x).mean((2, 3))
        return self.second(self.second(x)).sigmoid().sum()


def test_backward_operators_belong_to_the_part_that_called_them():
    model = Two()
    methods = [vars(part).copy() for part in (model.first, model.second)]
    with mark_parts(model) as names, profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(3):
            model(torch.ones(2, 3, 9, 9)).backward()
    assert names == ["first", "second"]
    assert [vars(part) for part in (model.first, model.second)] == methods
    parts, operators = gather_times(profiler.events(), 3, {"first": 5})
    rows = {row.name: row for row in parts}
    assert set(rows) == {"first", "second", ELSEWHERE} and rows["first"].flops == 5
    assert all(row.forward > 0 and row.backward > 0 for row in parts)
    calls = {row.name: row.calls for row in operators}
    assert (calls["aten::conv2d"], calls["ConvolutionBackward0"]) == (1, 1)
    assert (calls["aten::linear"], calls["AddmmBackward0"]) == (2, 2)
    # A convolution and two linear layers, each with its node and the gradients of its parameters
    # (accumulated elsewhere).
    forward = {name: row.calls for name, row in rows.items()}
    assert forward["first"] == 2 and forward["second"] >= 4
    # Every microsecond is in one part and in one operator.
    whole = [sum(row.forward + row.backward for row in table) for table in (parts, operators)]
    own = sum(event.self_cpu_time_total for event in profiler.events()) / 1e6 / 3
    assert whole == [pytest.approx(own)] * 2


def test_a_config_by_its_name(tmp_path, capsys, cache_folder):
    words = ["benchmark", "speed", CONFIG, "--pass", "training", "--where", "--repeats", "1"]
    out = tmp_path / "where.json"
    assert main([*words, "--threads", "1", "--batch", "2", "--json", str(out)]) == 0
    (found,) = json.loads(out.read_text())
    parts = {row["name"]: row for row in found["parts"]}
    for name in ("backbone", "neck", "rpn_head", "roi_head.bbox_head", "roi_head.mask_head"):
        row = parts[name]
        assert row["forward"] > 0 and row["backward"] > 0 and row["flops"] > 0
    assert parts["targets"]["forward"] > 0 and parts["optimizer"]["forward"] > 0
    assert parts["roi_head.bbox_roi_extractor"]["flops"] == 0
    forward = sum(row["flops"] for row in found["parts"])
    assert 2.5 * forward < found["flops"] < 3.3 * forward  # gradients of inputs and of weights
    operators = {row["name"]: row for row in found["operators"]}
    assert operators["ConvolutionBackward0"]["flops"] > operators["aten::conv2d"]["flops"] > 0
    assert found["loading"] > 0 and found["seconds"] > 0
    said = capsys.readouterr().out
    assert "| part | forward ms | backward ms | share |" in said and "| backbone |" in said


def test_the_heads_of_a_segmentor_have_operations(tmp_path, cache_folder):
    """mmseg calls a head's `forward` itself, which hooks of modules do not see."""
    words = ["benchmark", "speed", "shapes/upernet_hornet-nano_horuperhead_1k", "--pass"]
    words += ["training", "--where", "--repeats", "1", "--threads", "1"]
    out = tmp_path / "where.json"
    assert main([*words, "--batch", "2", "--json", str(out)]) == 0
    (found,) = json.loads(out.read_text())
    parts = {row["name"]: row["flops"] for row in found["parts"]}
    assert min(parts["backbone"], parts["decode_head"], parts["auxiliary_head"]) > 0
    assert 2.5 * sum(parts.values()) < found["flops"] < 3.3 * sum(parts.values())


def test_a_batch_that_a_batch_norm_refuses(capsys, cache_folder):
    words = ["benchmark", "speed", "shapes/upernet_hornet-nano_horuperhead_1k", "--pass"]
    assert main([*words, "training", "--where", "--repeats", "1", "--batch", "1"]) == 2
    assert "give --batch 2 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["fpn", "--pass", "training"],
        [CONFIG],
        [CONFIG, "--pass", "training", "--plot", "a.png"],
        [CONFIG, "--pass", "training", "--device", "cuda"],
    ],
)
def test_what_it_cannot_profile(words, capsys):
    assert main(["benchmark", "speed", *words, "--where"]) == 2
    assert "it profiles the training steps of configs on the CPU" in capsys.readouterr().err


def test_an_unknown_candidate_names_components_and_configs(capsys):
    assert main(["benchmark", "speed", "mask-rcnn_hornet-nano_horfpn_8e"]) == 2
    said = capsys.readouterr().err
    assert "no component or config is named" in said and "mask-rcnn_hornet-nano_horfpn_7e" in said
