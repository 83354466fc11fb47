"""Configs are strict: every fault is found, named with its nearest names, and nothing else is."""

from pathlib import Path

import mmdet
import mmseg
import pytest

from hordet.config.load import load_config, parse_options
from hordet.config.signature import get_keywords
from hordet.errors import ConfigError

MMDET = Path(mmdet.__file__).parent / ".mim" / "configs"
MMSEG = Path(mmseg.__file__).parent / ".mim" / "configs"
MASK_RCNN = MMDET / "mask_rcnn" / "mask-rcnn_r50_fpn_1x_coco.py"


@pytest.fixture
def child(tmp_path):
    """Write a config that inherits Mask R-CNN and changes what the test says."""

    def write(text, name="child.py"):
        (tmp_path / name).write_text(f"_base_ = {str(MASK_RCNN)!r}\n{text}\n")
        return tmp_path / name

    return write


def faults_of(path, options=None):
    with pytest.raises(ConfigError) as caught:
        load_config(path, options)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "atss/atss_r50_fpn_1x_coco.py",
        "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
        "dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py",
        "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
        "detr/detr_r50_8xb2-150e_coco.py",
        "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
        "gfl/gfl_r50_fpn_1x_coco.py",
        "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
        "queryinst/queryinst_r50_fpn_1x_coco.py",
        "rtmdet/rtmdet-ins_s_8xb32-300e_coco.py",
        "solov2/solov2_r50_fpn_1x_coco.py",
        "swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py",
        "vfnet/vfnet_r50_fpn_1x_coco.py",
        "yolox/yolox_s_8xb8-300e_coco.py",
    ],
)
def test_configs_of_mmdet_are_accepted(name):
    assert load_config(MMDET / name).default_scope == "mmdet"


@pytest.mark.parametrize(
    "name",
    [
        "deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py",
        "mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
        "ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py",
        "point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py",
        "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
    ],
)
def test_configs_of_mmseg_are_accepted(name):
    assert load_config(MMSEG / name).default_scope == "mmseg"


@pytest.mark.parametrize(
    ("base", "scope"),
    [
        ("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "mmdet"),
        ("mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py", "mmseg"),
    ],
)
def test_a_base_may_come_from_a_package(tmp_path, base, scope):
    (tmp_path / "child.py").write_text(f"_base_ = {base!r}\nwork_dir = 'mine'\n")
    cfg = load_config(tmp_path / "child.py")
    whole = load_config((MMDET if scope == "mmdet" else MMSEG) / base.partition("::")[2])
    assert (cfg.default_scope, cfg.work_dir, cfg.model._scope_) == (scope, "mine", scope)
    assert cfg.model.backbone == whole.model.backbone and cfg.keys() - {"work_dir"} == whole.keys()


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("mmdet::retinanet/retinanet_r50_fpn_1x_cocoa.py", r"did you mean 'retinanet/retinanet_r5"),
        ("mmnothing::a/b.py", "needs the package 'mmnothing'"),
    ],
)
def test_a_base_that_no_package_has(tmp_path, base, message):
    (tmp_path / "child.py").write_text(f"_base_ = {base!r}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "child.py")


def test_all_faults_at_once(child):
    path = child(
        "optim_wraper = dict(type='OptimWrapper')\n"
        "model = dict(neck=dict(num_out=5), backbone=dict(type='ResNett'))\n"
        "train_dataloader = dict(batch_sise=4)\n"
        "default_hooks = dict(logger=dict(intervall=3))\n"
        "randomness = dict(seeds=3)"
    )
    message = faults_of(path)
    assert "6 faults" in message
    assert "optim_wraper: unknown key; did you mean 'optim_wrapper'?" in message
    assert "model.neck.num_out: FPN has no such parameter; did you mean 'num_outs'" in message
    assert "model.backbone.type: type 'ResNett' is not registered under 'mmdet'" in message
    assert "did you mean 'ResNet'" in message
    assert "train_dataloader.batch_sise: unknown key; did you mean 'batch_size'" in message
    assert "default_hooks.logger.intervall: LoggerHook has no such parameter" in message
    assert "randomness.seeds: unknown key; did you mean 'seed'" in message


def test_types_of_hordet(child):
    neck = "model = dict(neck=dict(type='hordet.HorFPM'))"
    assert "did you mean 'HorFPN'" in faults_of(child(neck))
    assert "did you mean 'hordet.HorFPN'" in faults_of(
        child("model = dict(neck=dict(type='HorFPN'))")
    )
    path = child("model = dict(neck=dict(type='hordet.HorFPN', spatiall='gf'))")
    assert "model.neck.spatiall: HorFPN has no such parameter; did you mean 'spatial'" in faults_of(
        path
    )
    cfg = load_config(child("model = dict(neck=dict(type='hordet.HorFPN', add_extra_convs=True))"))
    assert cfg.model.neck.num_outs == 5


def test_a_package_that_is_not_there(child):
    path = child("model = dict(backbone=dict(type='nosuchpackage.ConvNeXt'))")
    assert "needs the package 'nosuchpackage', which is not installed" in faults_of(path)


def test_deep_places_are_checked(child):
    path = child("model = dict(test_cfg=dict(rcnn=dict(nms=dict(type='nms', iou_threshold=0.5))))")
    assert load_config(path).model.test_cfg.rcnn.nms.type == "nms"  # no class, read by mmcv itself
    message = faults_of(
        child("tta_pipeline = [dict(type='TestTimeAug', transforms=[[dict(type='Resiz')]])]")
    )
    assert "tta_pipeline.0.transforms.0.0.type: type 'Resiz'" in message and "'Resize'" in message


def test_variables_of_the_file_are_allowed(child):
    path = child("img_scales = [(1333, 800)]\nval_pipeline = []\nmy_norm = dict(type='BN')")
    assert load_config(path).my_norm.type == "BN"


def test_delete_replaces_the_inherited_dict(child):
    path = child(
        "model = dict(neck=dict(_delete_=True, type='PAFPN', "
        "in_channels=[1], out_channels=8, num_outs=1))"
    )
    assert set(load_config(path).model.neck) == {"type", "in_channels", "out_channels", "num_outs"}


def test_options(child):
    path = child("depth = 50")
    options = parse_options(
        ["model.backbone.depth=18", "train_dataloader.batch_size=3", "depth=18"]
    )
    cfg = load_config(path, options)
    assert (cfg.model.backbone.depth, cfg.train_dataloader.batch_size, cfg.depth) == (18, 3, 18)
    assert "model.neck.num_out: FPN" in faults_of(path, {"model.neck.num_out": 5})
    assert "modle: no such key in this config; did you mean 'model'" in faults_of(
        path, {"modle.x": 5}
    )
    assert "new_variable: no such key" in faults_of(path, {"new_variable": 5})
    assert "depth.x=5 cannot be applied to" in faults_of(path, {"depth.x": 5})
    index = {"train_dataloader.dataset.pipeline.99.prob": 1.0}
    assert "cannot be applied to" in faults_of(path, index)


def test_values_of_options():
    options = parse_options(["a.b=1", "c=0.5", "d=[1,2]", "e=(3,4)", "f=None", "g=true", "h=x=y"])
    assert options == {
        "a.b": 1,
        "c": 0.5,
        "d": [1, 2],
        "e": (3, 4),
        "f": None,
        "g": True,
        "h": "x=y",
    }
    with pytest.raises(ConfigError, match="'batch' is not of the form key=value"):
        parse_options(["batch"])
    for value in ("[dict(type='A',b=1),dict(c=2)]", "[1,(2"):
        with pytest.raises(ConfigError, match="write a config with _base_"):
            parse_options([f"model.loss={value}"])


def test_types_of_older_work_folders_have_their_names_of_today(child):
    path = child("optim_wrapper = dict(type='hordet.amp.CpuAmpOptimWrapper')")
    assert load_config(path).optim_wrapper.type == "hordet.Bfloat16OptimWrapper"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "mask.py").write_text("model = dict(")
    assert "did you mean 'mask.py'" in faults_of(tmp_path / "mask_.py")
    assert "mask.py cannot be read as a config" in faults_of(tmp_path / "mask.py")
    (tmp_path / "base.py").write_text("_base_ = 'absent.py'")
    assert "absent.py" in faults_of(tmp_path / "base.py")


class Base:
    def __init__(self, first, second=2):
        pass


class HandsOn(Base):
    def __init__(self, third=3, **kwargs):
        kwargs.setdefault("fourth", 4)
        kwargs.pop("fifth", None)
        super().__init__(**kwargs)


class KeepsThem(Base):
    def __init__(self, third=3, **kwargs):
        super().__init__(1)
        self.options = kwargs


def test_keywords_follow_the_base_classes():
    assert get_keywords(Base) == {"first", "second"}
    assert get_keywords(HandsOn) == {"first", "second", "third", "fourth", "fifth"}
    assert get_keywords(KeepsThem) is None
    assert get_keywords(faults_of) == {"path", "options"}
    assert get_keywords(dict) is None
