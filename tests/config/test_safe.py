"""`--safe-config`: a config is evaluated as data; all else is refused, and nothing runs.

Every attack tries to make the folder `made`. `READS` are refused by the evaluation, `NAMES` by the
rules on types and parameters, `FILES` by what they have as bases. Attacks that an ordinary reading
of the file lets happen are marked in `RUN`, and one test shows that they do.
"""

import contextlib
import json
import os
import random
import resource
import sys
from pathlib import Path

import mmengine
import pytest
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from hordet.config import allowed, safe
from hordet.config.load import load_config
from hordet.config.safe import read_data
from hordet.errors import ConfigError
from hordet.ops.upstream import find_configs_of_packages
from hordet.registry import MODELS

SEED = 20261129
REFUSED = "holds more than data, which --safe-config refuses:\n"


# Refused by the evaluation. {made} is the folder, {text} its name between quotes.
READS = {
    # What a reviewer passed the former check with.
    "rebound builtin": "dict = eval\nx = dict(\"__import__('os').mkdir({text})\")",
    "rebound builtin in a tuple": "a, dict = 1, eval",
    "rebound builtin in a loop": "x = [dict for dict in (eval, exec)]",
    "base by an absolute path": "_base_ = 'hordet::{folder}/evil.py'",
    "base by a substitution": "_base_ = '{{{{ fileDirname }}}}/evil.py'",
    "base outside": "_base_ = '../evil.py'",
    "code in a substitution": "x = '{{{{$NONE:1'+str(__import__('os').mkdir({text}))+'}}}}'",
    "text before a substitution": "x = 1  # {{{{$A:b}}}}\nimport os; os.mkdir({text})",
    "a substitution as a value": "x = {{{{'$NONE:1'}}}}",
    "another variable": "x = '{{{{$HOME:none}}}}'",
    "file name": "work_dir = '{{{{fileBasenameNoExtension}}}}'",
    # Calls.
    "import": "import os\nos.mkdir({text})",
    "import from": "from os import mkdir\nmkdir({text})",
    "__import__": "__import__('os').mkdir({text})",
    "in a list": "x = [open({text}, 'w') for _ in range(1)]",
    "in an f-string": "x = f'{{open({text}, \"w\")}}'",
    "in a keyword": "x = dict(a=open({text}, 'w'))",
    "in a key": "x = {{open({text}, 'w'): 1}}",
    "in a slice": "x = [1][open({text}, 'w'):]",
    "in a starred item": "x = [*open({text}, 'w')]",
    "in a ** item": "x = dict(**open({text}, 'w'))",
    "in a condition": "x = 1 if open({text}, 'w') else 2",
    "in a comprehension's condition": "x = [1 for a in (1,) if open({text}, 'w')]",
    "in a comparison": "x = 1 < open({text}, 'w')",
    "in an annotation": "x: open({text}, 'w') = 1",
    "in a default": "def f(x=open({text}, 'w')):\n    pass",
    "in a decorator": "@open({text}, 'w').write\nclass A:\n    pass",
    "in a metaclass": "class A(metaclass=print):\n    x = open({text}, 'w')",
    "in a lambda": "x = (lambda: open({text}, 'w'))()",
    "in a walrus": "x = (y := open({text}, 'w'))",
    "in an assert": "assert open({text}, 'w')",
    "in a raise": "raise open({text}, 'w')",
    "in a with": "with open({text}, 'w'):\n    pass",
    "in a try": "try:\n    1 / 0\nexcept Exception:\n    open({text}, 'w')",
    "in a match": "match open({text}, 'w'):\n    case _:\n        pass",
    "in a loop": "for i in open({text}, 'w'):\n    pass",
    "in an added assignment": "x = ''\nx += open({text}, 'w')",
    "in a target": "x = [1]\nx[open({text}, 'w')] = 1",
    "in a deletion": "x = [1]\ndel x[open({text}, 'w')]",
    "in an update": "x = dict()\nx.update(open({text}, 'w'))",
    "a reading of modules": "from mmengine.config import read_base\n"
    "with read_base():\n    from .evil import *",
    # Attributes and names.
    "subclasses": "x = [].__class__.__base__.__subclasses__()\nopen({text}, 'w')",
    "a text's format": "x = '{{0.__class__}}'.format(1)",
    "a method as a value": "x = dict\ny = ''.join",
    "a builtin as a value": "x = [eval]",
    "a builtin under another name": "x = eval\ny = x({text})",
    "globals of a base's method": "_base_ = 'base.py'\nx = _base_.model.update.__globals__",
    "a base's method": "_base_ = 'base.py'\nx = _base_.model.to_dict",
    "an attribute of a base's method": "_base_ = 'base.py'\n_base_.model.update = 1",
    "names that Python joins": "ｄict = ｅval\n",
    "builtins": "x = __builtins__['open']({text}, 'w')",
    "a name that mmengine gives": "x = __file__",
    "another module of the shapes": "from hordet.datasets.shapes import render",
    "the shapes' own imports": "from hordet.datasets.shapes import files as f\n"
    "x = f.os.mkdir({text})",
    "the shapes by a sibling": "from hordet.datasets.shapes import files as f\nx = f.json",
    "the shapes with arguments": "from hordet.datasets.shapes import files as f\n"
    "x = f.ensure_shapes(size=(99999, 99999))",
    "the shapes under a builtin's name": "from hordet.datasets.shapes import files as dict",
    "the globals of the shapes": "from hordet.datasets.shapes import files as f\n"
    "x = f.ensure_shapes.__globals__",
    # Bases.
    "a base by code": "_base_ = [open({text}, 'w')]",
    "a second base": "_base_ = 'base.py'\n_base_ = 'evil.py'",
    "a base of itself": "_base_ = 'config.py'",
    "a base with code": "_base_ = 'evil.py'",
    "a base in a package that leads out": "_base_ = 'mmdet::../../../../evil.py'",
    "a base in another package": "_base_ = 'os::evil.py'",
    "a base in a part of a package": "_base_ = 'mmdet.models::evil.py'",
    "a base by a link": "_base_ = 'link.py'",
    "a base in a linked folder": "_base_ = 'linked/evil.py'",
    "a base that never ends": "_base_ = 'pipe.py'",
    "a device as a base": "_base_ = '/dev/zero'",
    "a base at home": "_base_ = '~/evil.py'",
    "a pickle as a base": "_base_ = 'evil.pkl'",
    # Work without end.
    "a huge power": "x = 9**9**9",
    "a huge product": "\n".join(["x = 10**60", *["x = x * x"] * 20]),
    "a huge text": "x = 'a' * 10**10",
    "a padded text": "x = f'{{1:999999999}}'",
    "a formatted text": "x = '%999999999d' % 1",
    "a huge range": "x = [i for i in range(10**12)]",
    "nested loops": "x = [1 for a in range(9999) for b in range(9999) for c in range(9999)]",
    "doubled lists": "\n".join(["x = [1]", *["x = [x, x]"] * 40]),
    "doubled lists in a key": "\n".join(["x = (1,)", *["x = (x, x)"] * 40, "y = {{x: 1}}"]),
    "deep lists": "x = " + "[" * 90 + "]" * 90,
    "deeper than the parser": "x = " + "(" * 9000 + ")" * 9000,
    "a long sum": "x = " + "+".join(["1"] * 9000),
    # Values that are no plain data, and keys that a dumped config would run.
    "bytes": "x = b'os'",
    "a complex number": "x = 1j",
    "an ellipsis": "x = ...",
    "a key with code": "x = {{\"a': __import__('os').mkdir({made!r}), 'b\": 1}}",
    "a key with a new line": "x = {{'a\\nimport os': 1}}",
    "a class as a key": "x = dict(__class__=1)",
}  # fmt: skip
NAMES = {
    # What a reviewer passed the former check with.
    "an evaluated type": "model = dict(test_cfg=dict(nms=dict(type='exec({text}) or nms')))",
    "an evaluated type with a scope": "model = dict(test_cfg=dict(nms=dict(type='mmcv.nms')))",
    "pickled annotations": "train_dataloader = dict(dataset=dict(ann_file='a.pkl'))",
    "pickled annotations by a bare suffix": "train_dataloader = dict(dataset=dict(ann_file='pkl'))",
    "pickled proposals": "train_dataloader = dict(dataset=dict(proposal_file='a.PKL '))",
    "YAML annotations": "train_dataloader = dict(dataset=dict(ann_file='a.yaml'))",
    "a backend": "train_pipeline = [dict(type='LoadImageFromFile', "
    "backend_args=dict(backend='petrel'))]",
    "a backend's folder of modules": "backend_args = dict(backend='memcached', "
    "server_list_cfg='a', client_cfg='b', sys_path={text})",
    "a backend within another": "backend_args = dict(backend='hordet.timed', "
    "inner=dict(backend='lmdb', db_path={text}))",
    "an old name of backends": "x = dict(file_client_args=dict(backend='ceph'))",
    "a backend by a path's prefix": "train_dataloader = dict(dataset=dict(data_root='s3://a/'))",
    "a backend by a cluster's prefix": "x = dict(data_root='a:s3://b')",
    "a scope": "model = dict(type='ResNet', _scope_='evil')",
    "the scope of all": "default_scope = 'evil'",
    "a constructor": "optim_wrapper = dict(constructor='evil.Constructor')",
    "custom imports": "custom_imports = dict(imports=['antigravity'])",
    "custom imports of a package's command": "custom_imports = dict(imports='hordet.__main__')",
    "custom imports by a text": "custom_imports = 'evil'",
    "custom imports from a folder": "custom_imports = dict(imports='mmdet.models', path={text})",
    "pickled weights": "model = dict(init_cfg=dict(type='Pretrained', checkpoint='a.pkl'))",
    "weights of ceph": "load_from = 's3://a.pth'",
    "weights of petrel": "load_from = 'a:petrel://a.pth'",
    "weights of pavi": "load_from = 'pavi://a'",
    "weights of mmcls": "model = dict(init_cfg=dict(type='Pretrained', checkpoint='mmcls://a'))",
    "weights by file://": "load_from = 'file:///etc/passwd'",
    "Albu": "train_pipeline = [dict(type='Albu', transforms=[dict(type='load')])]",
    "Albu with a scope": "train_pipeline = [dict(type='mmseg.Albu', transforms=[])]",
    "a lambda as text": "x = dict(function='lambda x: open({made})')",
    "a program of a visualizer": "vis_backends = [dict(type='DVCLiveVisBackend')]",
    "a server of a visualizer": "visualizer = dict(type='Visualizer', "
    "vis_backends=[dict(type='WandbVisBackend')])",
    "a collate function": "train_dataloader = dict(collate_fn=dict(type='os.system'))",
    "a collate function as text": "train_dataloader = dict(collate_fn='os.system')",
    "a worker's function": "train_dataloader = dict(worker_init_fn=dict(type='evil.run'))",
    "a batch sampler": "train_dataloader = dict(batch_sampler=dict(type='evil.run'))",
    "a sampler as text": "train_dataloader = dict(sampler='evil.run')",
    "an optimizer's path": "optim_wrapper = dict(type='evil.run')",
    "a loop": "train_cfg = dict(type='evil.run')",
    "a test loop": "test_cfg = dict(type='subprocess.Popen')",
    "a broadcast": "train_pipeline = [dict(type='TransformBroadcaster', "
    "transforms=[dict(type='os.system')])]",
    "a launcher": "launcher = 'evil'",
    # Beyond that list.
    "a teacher's config, which is executed": "model = dict(teacher_config='evil.py')",
    "a compiler's path": "compile = dict(options={{'cpp.cxx': ({text},)}})",
    "a compiler's backend": "compile = dict(backend='evil')",
    "processes that join from elsewhere": "env_cfg = dict(dist_cfg=dict(backend='nccl', "
    "init_method='tcp://evil:1'))",
    "another backend of processes": "env_cfg = dict(dist_cfg=dict(backend='evil'))",
    "another way to start processes": "env_cfg = dict(mp_cfg=dict(mp_start_method='evil'))",
    "a context of processes": "train_dataloader = dict(multiprocessing_context='evil')",
    "a log into a home": "work_dir = '/root/.config'",
    "a log above": "work_dir = 'a/../../b'",
    "a log at home": "work_dir = '~/.local'",
    "a written module": "vis_backends = [dict(type='LocalVisBackend', "
    "config_save_file='../../sitecustomize.py')]",
    "results above": "test_evaluator = dict(type='CocoMetric', outfile_prefix='../a')",
    "a name of checkpoints": "default_hooks = dict(checkpoint=dict(type='CheckpointHook', "
    "filename_tmpl='../../x/{{}}'))",
    "checkpoints at another place": "default_hooks = dict(checkpoint=dict(type='CheckpointHook', "
    "out_dir='/etc'))",
    "a runner": "runner_type = 'subprocess.Popen'",
    "an average": "custom_hooks = [dict(type='EMAHook', ema_type='subprocess.Popen')]",
    "a strategy": "strategy = dict(type='DeepSpeedStrategy', config={text})",
    "a wrapper": "model_wrapper_cfg = dict(type='evil.Wrapper')",
    "an evaluated search": "custom_hooks = [dict(type='RFSearchHook')]",
    "an evaluated motion": "model = dict(cmc=dict(type='CameraMotionCompensation', "
    "warp_mode='exec({made})'))",
    "a data set of pickles": "train_dataloader = dict(dataset=dict(type='OpenImagesDataset'))",
    "a decoder of pickles": "train_pipeline = [dict(type='LoadBiomedicalImageFromFile', "
    "decode_backend='pickle')]",
    "timm's weights of anywhere": "model = dict(backbone=dict(type='hordet.TimmBackbone', "
    "model_name='resnet18', model_kwargs=dict(pretrained_cfg=dict(file='a'))))",
    "timm by mmseg": "model = dict(backbone=dict(type='TIMMBackbone', model_name='hf-hub:a/b'))",
    "a language model": "model = dict(language_model=dict(type='BertModel', name='evil/evil'))",
    "an optimizer by name": "optim_wrapper = dict(optimizer=dict(type='ZeroRedundancyOptimizer', "
    "optimizer_type='lr_scheduler'))",
    "a module of torch": "model = dict(type='torch.load', f={text})",
    "a function of torch.nn": "model = dict(type='torch.nn.parallel.data_parallel')",
    "a part of torch.optim": "optim_wrapper = dict(type='torch.optim.lr_scheduler.LambdaLR')",
    "what a module of torch.nn imports": "model = dict(type='torch.nn.modules.module.torch.load')",
    "what mmengine imports": "model = dict(type='mmengine.registry.registry.import_module')",
    "a function of mmengine": "model = dict(type='mmengine.load', file='x')",
    "what mmdet imports": "model = dict(type='mmdet.models.os.system')",
    "a command of hordet": "model = dict(type='hordet.cli.main.main')",
    "several types": "model = dict(type=['ResNet', 'os.system'])",
    "a type in a tuple of lists": "x = ([dict(a=dict(type='os.system'))],)",
    "a type by parts": "x = dict(type='os' + '.' + 'system')",
    "a type by an update": "x = dict(type='ResNet')\nx.update(dict(type='os.system'))",
    "a type by an item": "x = dict(type='ResNet')\nx['type'] = 'os.system'",
    "a type by a key that is made": "x = {{k + 'pe': 'os.system' for k in ('ty',)}}",
    "a type in a base, moved": "_base_ = 'base.py'\nx = dict(type=_base_.model.words)",
    "a type in a base, by reference": "_base_ = 'base.py'\n"
    "x = dict(type={{{{_base_.model.words}}}})",
    "an attribute of Python": "efficient_conv_bn_eval = ['a.__init__.__globals__']",
    "a folder that is removed after use": "test_evaluator = dict(type='CocoMetric', "
    "collect_dir='own')",
    "another folder that is removed": "test_evaluator = dict(type='CocoVideoMetric', tmpdir='own')",
    "results of Cityscapes in a folder of others": "test_evaluator = dict("
    "type='CityscapesMetric', output_dir='own')",
    "objects of Cityscapes in a folder of others": "test_evaluator = dict("
    "type='mmdet.CityScapesMetric', outfile_prefix='own')",
    "a file written beside the data": "train_dataloader = dict(dataset=dict("
    "type='CrowdHumanDataset', data_root='/root', ann_file='train.odgt'))",
    # Spelled so that a list of names might miss them.
    "a type after a blank": "model = dict(type=' subprocess.Popen')",
    "a type with a NUL": "model = dict(type='os.system\\x00')",
    "a type in wide letters": "model = dict(type='ｏｓ.system')",
    "a type with a space of no width": "model = dict(type='os\\u200b.system')",
    "a scheme in capitals": "load_from = 'S3://a.pth'",
    "a scheme after a blank": "load_from = ' s3://a.pth'",
    "a scheme in a second line": "load_from = '\\npetrel://a.pth'",
    "pickled annotations in two lines": "train_dataloader = dict(dataset=dict("
    "ann_file='a.pkl\\n'))",
    "a hidden file of pickled annotations": "train_dataloader = dict(dataset=dict("
    "ann_file='a/.pickle'))",
    "pickled proposals in a list": "train_dataloader = dict(dataset=dict("
    "proposal_file=['a.pkl']))",
    "a model of another kind in place of a base's": "_base_ = 'mmdet::faster_rcnn/"
    "faster-rcnn_r50_fpn_1x_coco.py'\nmodel = dict(_delete_=True, type='os.system')",
    "a work folder by dots": "work_dir = 'a/./../..'",
    "a tracker": "tracker = 'wandb'",
    "a tracker of two": "tracker = ['tensorboard', 'mlflow']",
    "a number as a type": "model = dict(type=3)",
    "a long scheme": "load_from = 'aaaaaaaaaaaaaaaaaaaaaaaahttp://a'",
}  # fmt: skip
# Attacks of READS that happen when mmengine reads the file.
RUN = ("__import__", "in a list", "in a default", "in a walrus", "in a target", "a base with code",
       "rebound builtin", "in a ** item", "a base in a linked folder")  # fmt: skip


def plant(folder, text):
    """Write a config, and what stands around it; return the config and the folder of the proof."""
    own, made = folder / "own", folder / "made"
    own.mkdir()
    evil = f"x = __import__('os').makedirs({str(made)!r}, exist_ok=True)\n"
    (folder / "evil.py").write_text(evil)
    (own / "evil.py").write_text(evil)
    (own / "evil.pkl").write_text(evil)
    (own / "base.py").write_text("model = dict(words='os.system', depth=dict(a=1))\n")
    (folder / "outside").mkdir()
    (folder / "outside" / "evil.py").write_text(evil)
    (own / "link.py").symlink_to(folder / "outside" / "evil.py")
    (own / "linked").symlink_to(folder / "outside")
    os.mkfifo(own / "pipe.py")
    config = own / "config.py"
    config.write_text(text.format(made=str(made), text=repr(str(made)), folder=str(own)))
    return config, made


@pytest.mark.parametrize("name", [*READS, *NAMES])
def test_attacks_are_refused_and_run_nothing(tmp_path, name):
    config, made = plant(tmp_path, (READS | NAMES)[name])
    with pytest.raises(ConfigError, match=REFUSED) as caught:
        load_config(config, safe=True)
    words = str(caught.value)
    assert "leave out --safe-config" in words and str(tmp_path) in words and len(words) < 3000
    assert not made.exists()


@pytest.mark.parametrize("name", RUN)
def test_the_same_attacks_succeed_without_the_flag(tmp_path, name):
    """Or the test above would prove nothing."""
    config, made = plant(tmp_path, READS[name])
    with contextlib.suppress(ConfigError):
        load_config(config)
    assert made.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "x: !!python/object/apply:os.mkdir [{made}]"),
        ("c.yml", "x: !!python/name:os.system"),
        ("c.yaml", "a: &a [1, 2]\n" + "".join(f"{'abcdefghij'[i]}1: &{'abcdefghij'[i]}1 "
         f"[*{'abcdefghij'[i - 1] + '1' if i else 'a'}]\n" for i in range(3)) + "b: &b [*b, *b]"),
        ("c.yaml", "a: &a0 [x, x]\n" + "".join(
            f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))),
        ("c.yaml", "x: 2020-01-01"),
        *(("c.yaml", f"x: {tag} {value}") for tag in ("!!timestamp", "!!int", "!!float", "!!binary")
          for value in ("foo", "''", "0x", "'0b'", "'-'", "[1]", "{{{{a: 1}}}}")
          if (tag, value) != ("!!binary", "''")),
        *(("c.json", f'{{{{"_base_": "{name}"}}}}') for name in (
            "\\ud800.py", "a\\u0000.py", "\\n.py", "x" * 5000 + ".py")),
        *(("c.json", f'{{{{"x": {value}}}}}') for value in (
            '{{{{"\\ud800": 1}}}}', "1e9999, NaN", "9" * 5000)),
        ("c.yaml", "- 1"),
        ("c.yaml", "x: '{{{{$HOME:1}}}}'"),
        ("c.yaml", "_base_: ../evil.py"),
        ("c.yaml", "model: {{type: os.system}}"),
        ("c.json", '{{"model": {{"type": "os.system"}}}}'),
        ("c.json", '{{"_base_": "evil.py"}}'),
        ("c.json", '{{"_base_": {{"a": 1}}}}'),
        ("c.json", '{{"x": ' + "[" * 100000 + "}}"),
        ("c.json", '{{"a\': __import__(1), \'b": 1}}'),
        ("c.json", "[1]"),
        ("c.toml", "x = 1"),
        ("c.txt", "x = 1"),
    ],
)  # fmt: skip
def test_other_formats_are_data_too(tmp_path, name, text):
    config, made = plant(tmp_path, "")
    path = config.with_name(name)
    path.write_text(text.format(made=made))
    with pytest.raises(ConfigError, match="holds more than data|cannot be read"):
        load_config(path, safe=True)
    with contextlib.suppress(ConfigError):  # as a report reads it, which catches nothing else
        read_data(path)
    assert not made.exists()


@pytest.mark.parametrize(
    "name",
    [
        "half a pair \\ud83d",
        "{\\x7b",
        "\\x7b\\x7b $HOME:1 }}",
        "{\\u007b_base_.a}}",
        "{\\x7b$A:b}}",
    ],
)
def test_what_is_escaped_is_text(tmp_path, name):
    (tmp_path / "c.py").write_text(f"x = dict(classes=('{name}', 'a'))\n")
    assert read_data(tmp_path / "c.py").to_dict() == Config.fromfile(tmp_path / "c.py").to_dict()


@pytest.mark.parametrize("key", ["work_dir", "vis_backends.save_dir", "x.out_dir"])
def test_no_link_leads_what_is_written_out(tmp_path, monkeypatch, key):
    for folder in ("own/inside", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "own")
    (tmp_path / "own" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "own" / "hidden").symlink_to("link/..")
    (tmp_path / "own" / "near").symlink_to("inside")
    for place in ("link", "link/a/b", "hidden", "hidden/outside", "a\0"):
        cfg = Config({})
        cfg.merge_from_dict({key: place})
        assert [line.startswith(key) for line in allowed.find_dangers(cfg.to_dict())] == [True], (
            place
        )
    for place in ("near/a", "a/b", "inside"):
        cfg.merge_from_dict({key: place})
        assert not [*allowed.find_dangers(cfg.to_dict())]


@pytest.mark.parametrize(
    "option",
    [
        {"model.type": "os.system"},
        {"custom_imports.imports": ["evil"]},
        {"train_dataloader.dataset.ann_file": "a.pkl"},
        {"work_dir": "/root"},
        {"custom_hooks": [{"type": "evil.Hook"}]},
    ],
)
def test_options_are_checked_the_same_way(tmp_path, option):
    config, made = plant(tmp_path, "model = dict(a=1)")
    with pytest.raises(ConfigError, match=REFUSED):
        load_config(config, options=option, safe=True)
    assert not made.exists()


def test_a_variable_is_text(tmp_path, monkeypatch):
    """What an environment variable holds is put in after the file is parsed."""
    trick = "x' + str(open('made', 'w')) + '"
    monkeypatch.setenv("HORDET_DATA", trick)
    config, _ = plant(tmp_path, "data_root = '{{{{$HORDET_DATA:data}}}}/a'")
    assert read_data(config).data_root == f"{trick}/a"
    monkeypatch.delenv("HORDET_DATA")
    assert read_data(config).data_root == "data/a"


def test_a_declared_encoding_is_not_obeyed(tmp_path):
    """In UTF-7 the comment would be code."""
    config, made = plant(tmp_path, "")
    config.write_text("# -*- coding: utf-7 -*-\n# +AAo-import os\nx = 1\n")
    assert read_data(config).x == 1


def test_closed_doors(tmp_path, monkeypatch):
    """A name of another registry is not imported, and no pickle is read, whatever asks for it."""
    (tmp_path / "CocoDataset.py").write_text(f"import os; os.mkdir({str(tmp_path / 'made')!r})")
    (tmp_path / "a.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (tmp_path / "a.yaml").write_text("x: !!python/object/apply:os.system ['false']")
    (tmp_path / "b.yaml").write_text("x: 1")
    monkeypatch.syspath_prepend(tmp_path)
    allowed.close_doors()
    with pytest.raises(KeyError):
        MODELS.build(dict(type="CocoDataset"))
    assert "CocoDataset" not in sys.modules and not (tmp_path / "made").exists()
    with pytest.raises(ConfigError, match="is a pickle"):
        mmengine.load(str(tmp_path / "a.pkl"))
    with pytest.raises(Exception, match="could not determine a constructor"):
        mmengine.load(str(tmp_path / "a.yaml"))
    assert mmengine.load(str(tmp_path / "b.yaml")) == {"x": 1}
    mmengine.dump([1], str(tmp_path / "c.pkl"))
    with pytest.raises(ConfigError, match="are not read under --safe-config"):
        CheckpointLoader.load_checkpoint("s3://a.pth")
    linear = dict(type="torch.nn.Linear", in_features=1, out_features=1)
    assert isinstance(MODELS.build(linear), nn.Linear)
    allowed.open_doors()
    assert mmengine.load(str(tmp_path / "c.pkl")) == [1]
    with contextlib.suppress(TypeError):
        MODELS.build(dict(type="CocoDataset"))
    assert "CocoDataset" in sys.modules and (tmp_path / "made").exists()


def test_full_names_of_dumped_configs():
    name = "mmdet.models.detectors.mask_rcnn.MaskRCNN"
    assert allowed.resolve(name).__name__ == "MaskRCNN"
    assert allowed.resolve("mmdet.models.detectors.MaskRCNN").__name__ == "MaskRCNN"
    assert allowed.resolve("mmdet.models.dense_heads.MaskRCNN") is None
    assert allowed.resolve("MaskRCNN") is None


@pytest.mark.parametrize(
    "part", ["lambda ", "a", "__", "_a", "{{$a:", "{{ ", "x:/", "['", "\\\\", "http:/"]
)
def test_long_texts_are_no_work(tmp_path, part):
    """Each regular expression is linear: a quadratic one would take hours for this one text."""
    config, _ = plant(tmp_path, "")
    config.write_text(f"x = {part * (90_000 // len(part))!r}\ny = [x + str(i) for i in range(9)]")
    with contextlib.suppress(ConfigError):
        load_config(config, safe=True)


DEEP = "{'a': " * 30 + "1" + "}" * 30
# By what is too much: a name, a text, and what is said of it. Without bounds each of these takes
# minutes, gigabytes or for ever.
BOUNDS = [
    ("c.py", "_base_ = ['t1.py', 't1.py']", "one of more than 200 files to read"),
    ("c.py", f"_base_ = {['empty.py'] * 400!r}", "one of more than 200 files to read"),
    ("c.json", '{"_base_": ["t1.json", "t1.json"]}', "one of more than 200 files to read"),
    ("c.yaml", "_base_: [t1.yaml, t1.yaml]", "one of more than 200 files to read"),
    ("c.py", "_base_ = ['large.py', 'large.py']", "with all bases it has more than 500,000 bytes"),
    ("c.py", "x = 1\n" * 90_000, "with all bases it has more than 500,000 bytes"),
    ("c.py", "x = f'" + "{a}" * 40_000 + "'", "files with f-strings have more than 100,000 bytes"),
    ("c.py", "a = 'a' * 90000\nx = f'{a}b{a}'", "line 2: a text of more than 100,000 characters"),
    ("c.py", f"x = '{'a' * 100_001}'", "line 1: a text of more than 100,000 characters"),
    ("c.yaml", f"x: {'a' * 100_001}", "a text of more than 100,000 characters"),
    ("c.py", "x = 'a' * 90000\ny = [x] * 12", "texts in a value have more than 1,000,000 chara"),
    ("c.json", json.dumps({"x": {"k" * 1001: 1}}), "a key of more than 1,000 characters"),
    ("c.py", "\n".join(f"a{i} = 1" for i in range(2100)), "more than 2,000 names"),
    ("c.json", json.dumps({f"a{i}": 1 for i in range(2100)}), "more than 2,000 settings"),
    ("c.py", "\n".join(["x = 1"] * 50_000 + ["x = [0 for i in range(99999)]"] * 3),
     "more than 200,000 steps of work"),
    ("c.py", f"x = [{', '.join([DEEP] * 1500)}]", "more than 200,000 steps of work"),
    ("c.yaml", f"x: [{'1,' * 200_000}]", "more than 100,000 parts"),
    ("c.yaml", "x: " + "[" * 900 + "]" * 900, "more than 50 deep"),
    ("c.yaml", "x: 1" + ":00" * 60, "the number 1:00:00:00:00:00:00:... has more than 100 char"),
    ("c.yaml", "x: 1" + ":00" * 60 + ".5", "the number 1:00:00:00:00:00:00:... has more than 100"),
    ("c.yaml", "x: 0x" + "f" * 6000, "the number 0xffffffffffffffffff... has more than 100"),
    ("c.yaml", "x: 0b" + "1" * 300_000, "has more than 100 characters"),
    ("c.yaml", "x: 0x" + "f" * 90, "a number of more than 256 bits"),
    ("c.json", json.dumps({"x": 10**90}), "a number of more than 256 bits"),
    ("c.json", json.dumps({"x": [10**120]}), "the number 10000000000000000000... has more than"),
    ("c.json", '{"x": 1.' + "0" * 300 + "}", "the number 1.000000000000000000... has more than"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BOUNDS)))
def test_the_work_of_reading_is_bounded(tmp_path, number):
    """Each bound is told, whatever kind of file asks for more."""
    name, text, words = BOUNDS[number]
    for index in range(1, 50):  # 2 ** 49 readings
        pair = [f"t{index + 1}"] * 2 if index < 49 else []
        for suffix in ("py", "json", "yaml"):
            bases = json.dumps([f"{each}.{suffix}" for each in pair])
            form = {"py": "_base_ = {}", "json": '{{"_base_": {}}}', "yaml": "_base_: {}"}[suffix]
            (tmp_path / f"t{index}.{suffix}").write_text(form.format(bases))
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "large.py").write_text("#" * 300_000)
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=REFUSED) as caught:  # as reports and resumes read, too
        read_data(tmp_path / name)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"optim_wrapper = {dict.fromkeys(map(str, range(20000)), 1)}", "unknown key"),
        ("model = [" + "dict(type='ResNet', a=1)," * 9000 + "]", "is not registered"),
    ],
)
def test_many_faults_are_told_in_part(tmp_path, text, kind):
    """The nearest name of each would take minutes."""
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(ConfigError, match="has 100 faults or more") as caught:
        load_config(tmp_path / "a.py", safe=True)
    assert str(caught.value).count(kind) == 100


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "1e400"])
def test_json_has_finite_numbers(tmp_path, value):
    (tmp_path / "c.json").write_text(f'{{"x": [{value}]}}')
    with pytest.raises(ConfigError, match="write a large number such as 1e30"):
        read_data(tmp_path / "c.json")


@pytest.mark.parametrize("value", [".inf", "-.Inf", ".nan", "!!float inf"])
def test_yaml_has_finite_numbers(tmp_path, value):
    (tmp_path / "c.yaml").write_text(f"x: [{value}]")
    with pytest.raises(ConfigError, match="write a large one such as"):
        read_data(tmp_path / "c.yaml")


@pytest.mark.parametrize("key", ["=", "dict", "import", "a b", "1", "ｄict", "a.b", "None", ""])
@pytest.mark.parametrize("safely", [True, False])
def test_a_setting_has_a_name_of_python(tmp_path, key, safely):
    """A run writes its config as Python, and could not read it again."""
    (tmp_path / "c.json").write_text(json.dumps({"x": 1, key: 2}))
    with pytest.raises(ConfigError, match="cannot name a setting"):
        load_config(tmp_path / "c.json", safe=safely)


def test_names_of_functions_may_be_settings(tmp_path):
    """Such as `set = 'val'`; then no function has that name."""
    (tmp_path / "c.py").write_text("set = 'val'\nx = dict(a=set)")
    assert read_data(tmp_path / "c.py").x.a == "val"
    (tmp_path / "c.py").write_text("set = 'val'\nx = set([1])")
    with pytest.raises(ConfigError, match="a call of set, to which the file gives a value"):
        read_data(tmp_path / "c.py")


@pytest.mark.parametrize(
    "text",
    [
        "x = [[0] * 100000 for i in range(3000)]",
        "d = {i: i for i in range(9000)}\nx = [{**d} for i in range(4000)]",
        "d = {str(i): i for i in range(9000)}\nx = [dict(d, a=1) for i in range(4000)]",
        "d = [0] * 90000\nx = [d[1:] for i in range(4000)]",
        "d = [0] * 90000\nx = [d + [i] for i in range(4000)]",
    ],
)
def test_what_is_built_is_counted_as_it_is_built(tmp_path, text):
    """Not only once all of it is there: gigabytes would be."""
    (tmp_path / "a.py").write_text(text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match="steps of work"):
        load_config(tmp_path / "a.py", safe=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kilobytes


@pytest.mark.parametrize("imports", ["5", "[['os']]", "[dict(a=1)]", "{1: 2}"])
def test_imports_of_another_kind_are_refused_in_words(tmp_path, imports):
    (tmp_path / "a.py").write_text(f"custom_imports = dict(imports={imports})")
    with pytest.raises(ConfigError, match="custom_imports"):
        load_config(tmp_path / "a.py", safe=True)


def test_imports_that_fail_are_told(tmp_path):
    config, _ = plant(tmp_path, "custom_imports = dict(imports='mmcv.evaluation')")
    with pytest.raises(ConfigError, match="custom_imports: Failed to import"):
        load_config(config, safe=True)


# Equality with mmengine's own reading.


def list_packaged(package):
    root = Path(safe._find_configs(package))
    return [path for path in sorted(root.rglob("*.py")) if path.name != "override_category.py"]


def read_both(path):
    with find_configs_of_packages():
        ordinary = Config.fromfile(path, import_custom_modules=False)
    return read_data(path), ordinary


def require_same(read, ordinary, path):
    assert type(read) is type(ordinary), path
    if isinstance(read, dict):
        assert list(read) == list(ordinary), path
        for key in read:
            require_same(read[key], ordinary[key], f"{path}.{key}")
    elif isinstance(read, (list, tuple)):
        assert len(read) == len(ordinary), path
        for index, pair in enumerate(zip(read, ordinary, strict=True)):
            require_same(*pair, f"{path}.{index}")
    else:
        assert read == ordinary or read != read, path


def test_every_config_of_hordet_reads_the_same():
    paths = [path for path in list_packaged("hordet") if "_base_" not in path.parts]
    assert len(paths) > 80
    allowed.close_doors()
    for path in paths:
        read, ordinary = read_both(path)
        require_same(read._cfg_dict, ordinary._cfg_dict, str(path))
        assert read.text == ordinary.text and read.filename == ordinary.filename
        assert list(allowed.find_dangers(dict(read.items()))) == [], path


@pytest.mark.parametrize("package", ["mmdet", "mmseg"])
def test_configs_of_packages_read_the_same(package):
    """A sample of 60; what neither can read (a base of a package that is missing) counts not."""
    paths = [path for path in list_packaged(package) if "classification" not in path.parts]
    compared = 0
    for path in random.Random(SEED).sample(paths, 30):
        try:
            read, ordinary = read_both(path)
        except FileNotFoundError:
            with pytest.raises(ConfigError):
                read_data(path)
            continue
        require_same(read._cfg_dict, ordinary._cfg_dict, str(path))
        compared += 1
    assert compared >= 28


BASE = "model = dict(type='A', neck=dict(b=1, c=[dict(d=1), 2]), words='x')\nlr = 0.1\n"
TEXTS = [
    "_base_ = ['base.py']\nmodel = dict(neck=dict(_delete_=True, e=3))",
    "_base_ = 'base.py'\nx = _base_.model.neck.c[0]\nx.d = 5\ny = dict(z={{_base_.lr}})",
    "_base_ = 'base.py'\nm = _base_.model\nm.neck.update(dict(b=4))\nm.pop('words')\ndel _base_.lr",
    "a, b = (i for i in (1, 2))\nc = [*range(3)]\n(d, e), f = [(1, 2), 3]",
    "x = {f'a{i}.{n}': [n] * i for i, n in enumerate([2, 3])}\ny = sum(range(5)) // 2\nz = -2**3",
    "x = dict({'a': 1}, b=2, **dict(c=3))\ny = {**x, 'd': (1, *[2, 3])}\nz = 'abc'[-2:] + str(1)",
    "x = (1, [2, {3, 4}])\nt = {'k': x[1][0]}\nt['l'] = len('abc')\ndel t['k']",
    "_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py']\nmodel = dict(neck=dict(num_outs=4))",
    "_base_ = ['mmseg::_base_/models/fcn_unet_s5-d16.py']\nx = _base_.norm_cfg\nmodel = dict(a=x)",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_the_language_is_mmengines(tmp_path, text):
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "c.py").write_text(text)
    read, ordinary = read_both(tmp_path / "c.py")
    require_same(read._cfg_dict, ordinary._cfg_dict, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"_base_": "base.py", "x": {{_base_.model.neck}}, "y": [1, null, true]}'),
        ("c.yaml", "_base_: base.py\nx: {{ _base_.lr }}\nmodel:\n  neck: {_delete_: true, a: 2}\n"),
    ],
)
def test_json_and_yaml_read_the_same(tmp_path, name, text):
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / name).write_text(text)
    read, ordinary = read_both(tmp_path / name)
    require_same(read._cfg_dict, ordinary._cfg_dict, text)


def test_a_base_beside_the_folder_base(tmp_path):
    """`../_base_/x.py` is a base of the folder tree; the tree ends there."""
    (tmp_path / "configs" / "_base_").mkdir(parents=True)
    (tmp_path / "configs" / "own").mkdir()
    (tmp_path / "configs" / "_base_" / "x.py").write_text("a = 1")
    (tmp_path / "x.py").write_text("a = 2")
    path = tmp_path / "configs" / "own" / "c.py"
    path.write_text("_base_ = '../_base_/x.py'")
    assert read_data(path).a == 1
    path.write_text("_base_ = '../../x.py'")
    with pytest.raises(ConfigError, match="lies outside"):
        read_data(path)


def test_a_config_of_mmdet_by_name(tmp_path):
    (tmp_path / "c.py").write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\nlr = 2 * 1e-4\n"
        "optim_wrapper = dict(optimizer=dict(type='torch.optim.SGD', lr=lr))\n"
    )
    cfg = load_config(tmp_path / "c.py", safe=True)
    assert cfg.optim_wrapper.optimizer.lr == 2e-4 and cfg.model.type == "RetinaNet"


# A thousand mutated configs.

VALUES = [  # in place of a value; @ is the folder of the proof
    "__import__('os').makedirs(@, exist_ok=True)",
    "exec('import os; os.makedirs(' + repr(@) + ')')",
    "eval('open(' + repr(@) + ', \"w\")')",
    "open(@, 'w')",
    "[open(@, 'w') for _ in (1,)]",
    "(lambda: open(@, 'w'))()",
    "f'{open(@, chr(119))}'",
    "getattr(__builtins__, 'open')(@, 'w')",
    "[].__class__.__mro__[1].__subclasses__()",
    "'{{ fileDirname }}'",
    "'{{$PATH:none}}'",
    "{{'$HOME:1'}}",
    "b'cos\\nsystem\\n'",
    "(y := open(@, 'w'))",
    "dict(**open(@, 'w'))",
]
LINES = [  # among the lines
    "import os; os.makedirs(@, exist_ok=True)",
    "dict = eval",
    "from os import environ; environ['HORDET_MARK'] = '1'",
    "class A(list, metaclass=lambda *a: open(@, 'w')): pass",
    "_base_ = 'hordet::/etc/evil.py'",
    "x: open(@, 'w') = 1",
    "custom_imports = dict(imports=['evil'])",
    "work_dir = '/root/evil'",
]
PAIRS = [  # as a key and value of a dict
    ("type", "os.system"),
    ("type", "exec('import os') or nms"),
    ("type", "evil.Evil"),
    ("type", "Albu"),
    ("_scope_", "evil"),
    ("constructor", "evil.Evil"),
    ("ann_file", "evil.pkl"),
    ("ann_file", "evil.yaml"),
    ("backend_args", {"backend": "petrel", "conf_path": "evil"}),
    ("checkpoint", "s3://evil.pth"),
    ("collate_fn", {"type": "evil.run"}),
    ("teacher_config", "evil.py"),
    ("a': __import__('os').makedirs('made'), 'b", 1),
    ("init_cfg", {"type": "Pretrained", "checkpoint": "evil.pkl"}),
    ("compile", {"options": {"cpp.cxx": "evil"}}),
    ("warp_mode", "__import__('os').system('true')"),
]


class Code:
    """Stands in a nest of values for a piece of Python."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def mutate(values, draw, made):
    """Return the text of a config with one trick at a random place."""
    values = json.loads(json.dumps(values))
    places, left = [], [values]
    while left:
        part = left.pop()
        keys = part if isinstance(part, dict) else range(len(part))
        places += [(part, key) for key in keys]
        left += [part[key] for key in keys if isinstance(part[key], (dict, list))]
    kind = draw.choice("vlp")
    lines = None
    if kind == "v":
        part, key = draw.choice(places)
        part[key] = Code(draw.choice(VALUES).replace("@", repr(made)))
    elif kind == "p":
        dicts = [part[key] for part, key in places if isinstance(part[key], dict)]
        key, value = draw.choice(PAIRS)
        draw.choice(dicts)[key] = value
    lines = [f"{key} = {value!r}" for key, value in values.items()]
    if kind == "l":
        lines.insert(draw.randint(0, len(lines)), draw.choice(LINES).replace("@", repr(made)))
    return "\n".join(lines)


EVENTS = {"exec", "os.exec", "os.mkdir", "os.posix_spawn", "os.putenv", "os.system",
          "pickle.find_class", "socket.connect", "subprocess.Popen"}  # fmt: skip
_heard = None


def _listen(event, arguments):
    if _heard is not None and event in EVENTS:
        _heard.append((event, str(arguments)[:80]))


def fuzz(tmp_path, number, seed):
    """Read mutated configs; return how many were refused, and what was heard to run."""
    global _heard
    sys.addaudithook(_listen)
    names = ("shapes/mask-rcnn_hornet-nano_horfpn_7e", "shapes/upernet_hornet-nano_horuperhead_1k",
             "nuclei/mask-rcnn_hornet-nano_horfpn_14e")  # fmt: skip
    roots = [load_config(name, safe=True).to_dict() for name in names]
    kept = ("default_scope", "model", "train_dataloader", "optim_wrapper", "custom_hooks")
    starts = [{key: root[key] for key in kept if key in root} for root in roots]
    made, draw = tmp_path / "made", random.Random(seed)
    path = tmp_path / "c.py"
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in starts[0].items()))
    load_config(path, safe=True)  # unchanged it is read, and all that is imported is
    refused = 0
    _heard = heard = []
    try:
        for _ in range(number):
            path.write_text(mutate(draw.choice(starts), draw, str(made)))
            try:
                load_config(path, safe=True)
            except ConfigError as error:
                refused += REFUSED in str(error)
            if made.exists() or "HORDET_MARK" in os.environ:
                heard.append(("mark", path.read_text()))
    finally:
        _heard = None
    return refused, heard


def test_a_thousand_mutated_configs_run_nothing(tmp_path):
    assert fuzz(tmp_path, 1000, SEED) == (1000, [])


@pytest.mark.slow
def test_twenty_thousand_mutated_configs_run_nothing(tmp_path):
    assert fuzz(tmp_path, 20_000, SEED + 1) == (20_000, [])
