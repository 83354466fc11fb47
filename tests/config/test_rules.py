"""Each rule of `hordet.config.allowed`, and each refused component, stops an attack by itself.

An attack is refused with its rule, and passes once the rule is taken out: what no attack needs
would not be missed. A rule or a refused component without an attack here fails.
"""

import pytest

from hordet.config import allowed

PLACE = "/etc/cron.d"
# By rule: values that it alone refuses, and one that it lets through.
ATTACKS = {
    "type": ("os.system", "ResNet"),
    "constructor": ("evil.Constructor", "DefaultOptimWrapperConstructor"),
    "ema_type": ("subprocess.Popen", "ExponentialMovingAverage"),
    "_scope_": ("evil", "mmdet"),
    "default_scope": ("os", "mmseg"),
    "runner_type": ("subprocess.Popen", "FlexibleRunner"),
    "optimizer_type": ("lr_scheduler", "AdamW"),
    "custom_imports": ({"imports": ["antigravity"]}, {"imports": ["mmdet.models"]}),
    "warp_mode": ("exec('1')", "cv2.MOTION_EUCLIDEAN"),
    "compile": ({"options": {"cpp.cxx": "evil"}}, {"mode": "max-autotune"}),
    "tracker": ("wandb", "tensorboard"),
    "launcher": ("evil", "slurm"),
    "dist_cfg": ({"backend": "nccl", "init_method": "env"}, {"backend": "gloo"}),
    "mp_start_method": ("evil", "fork"),
    "multiprocessing_context": ("evil", "spawn"),
    "teacher_config": ("evil.py", {"a": 1}),
    "batch_sampler": ("evil.run", {"batch_size": 1}),
    "collate_fn": ("os.system", {"a": 1}),
    "param_init_fn": ("os.system", None),
    "sampler": ("evil.run", {"shuffle": True}),
    "worker_init_fn": ("os.system", {"a": 1}),
    "backend_args": ({"backend": "petrel"}, {"backend": "local"}),
    "file_client_args": ({"backend": "lmdb", "db_path": "a"}, {"backend": "disk"}),
    "decode_backend": ("evil", "numpy"),
    "model_kwargs": ({"pretrained_cfg": {"a": 1}}, {"drop_rate": 0.1}),
    "collect_dir": ("own", None),
    "tmpdir": ("own", None),
    **{
        key: (PLACE, "results/a")
        for key in (
            *("dir_name", "img_save_dir", "json_trace_path", "out_dir", "out_file_path"),
            *("outfile_path", "outfile_prefix", "output_dir", "proposals_file", "result_path"),
            *("save_dir", "test_out_dir", "work_dir"),
        )
    },
    "config_save_file": ("../sitecustomize.py", "config.py"),
    "filename_tmpl": ("../../x/{}", "epoch_{}.pth"),
    "out_suffix": ("/../../evil.py", ".pkl.json"),
    "scalar_save_file": ("../sitecustomize.py", "scalars.json"),
}


def find(cfg):
    return list(allowed.find_dangers(cfg))


def test_every_rule_has_an_attack():
    assert ATTACKS.keys() == allowed._RULES.keys()


@pytest.mark.parametrize("key", sorted(allowed._RULES))
def test_a_rule_stops_its_attack_by_itself(monkeypatch, key):
    attack, usual = ATTACKS[key]
    for cfg in ({key: attack}, {"a": [{"b": {key: attack}}]}):
        (line,) = find(cfg)
        assert f"{key}=" in line
    assert find({key: usual}) == []
    monkeypatch.delitem(allowed._RULES, key)
    assert find({key: attack}) == []


WRITTEN = [key for key, rule in allowed._RULES.items() if rule is allowed._check_path]


@pytest.mark.parametrize("key", sorted(WRITTEN))
@pytest.mark.parametrize(
    "place",
    ["/root/.ssh", "~/.config", "a/../../b", "\\\\host\\a", "C:a", "a\nb", ["/a"], "a" * 5000],
)
def test_no_place_that_is_written_leads_out(key, place):
    assert any(line.startswith(f"{key}=") for line in find({key: place}))


@pytest.mark.parametrize("name", sorted(allowed.REFUSED))
def test_a_refused_component_is_refused_by_its_entry_alone(monkeypatch, name):
    """Without the entry it is a registered component like any other."""
    ways = [name, *(f"{package}.{name}" for package in ("mmdet", "mmengine", "mmseg"))]
    for way in ways:
        assert any(f"{name} is refused" in line for line in find({"a": [{"type": way}]}))
    assert find({"a": {"type": [f"mmdet.evil.{name}"]}})
    assert find({"a": {"b": name}})  # as a text that is looked up by another key
    monkeypatch.delitem(allowed.REFUSED, name)
    assert find({"a": [{"type": name}]}) == []


@pytest.mark.parametrize("suffix", allowed.CODE_SUFFIXES)
def test_each_suffix_of_files_with_code_stops_an_attack_by_itself(monkeypatch, suffix):
    assert find({"ann_file": f"a.{suffix}"})
    left = [each for each in allowed.CODE_SUFFIXES if each != suffix]
    monkeypatch.setattr(allowed, "CODE_SUFFIXES", left)
    assert find({"ann_file": f"a.{suffix}"}) == []
