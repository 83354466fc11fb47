"""What a detector is trained to predict: mmdet's assigner and sampler without waiting for a GPU.

mmdet reads a value of the device for each object of each image (`if gt_max_overlaps[i] >= ...`),
and the host waits for the GPU each time. Here the same is computed for all objects at once.
"""

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.assigners import MaxIoUAssigner as MmdetMaxIoUAssigner
from mmdet.models.task_modules.samplers import RandomSampler as MmdetRandomSampler
from numpy import ndarray
from torch import Tensor

from hordet.registry import TASK_UTILS


@TASK_UTILS.register_module()
class MaxIoUAssigner(MmdetMaxIoUAssigner):
    """mmdet's MaxIoUAssigner for all objects at once (Faster R-CNN, 2015, section 3.1.2).

    The same options and the same assignments, ties included: where several objects take a box as
    their best, the last one has it.
    """

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Assign an object, the background or nothing to each box.

        Args:
            overlaps: Of k objects with n boxes, (k, n); -1 where a box is ignored.
            gt_labels: Classes of the objects, (k,).

        Returns:
            For each box the object, counted from 1, 0 for background and -1 for neither, its
            largest overlap, and its class or -1.
        """
        number, boxes = overlaps.shape
        if number == 0 or boxes == 0:
            return super().assign_wrt_overlaps(overlaps, gt_labels)
        largest, nearest = overlaps.max(dim=0)
        best, best_box = overlaps.max(dim=1)

        assigned = torch.full_like(nearest, -1)
        if isinstance(self.neg_iou_thr, float):
            background = (largest >= 0) & (largest < self.neg_iou_thr)
            assigned = assigned.masked_fill(background, 0)
        elif isinstance(self.neg_iou_thr, tuple):
            lowest, highest = self.neg_iou_thr
            assigned = assigned.masked_fill((largest >= lowest) & (largest < highest), 0)
        assigned = torch.where(largest >= self.pos_iou_thr, nearest + 1, assigned)

        if self.match_low_quality:
            numbers = torch.arange(1, number + 1, device=overlaps.device)
            numbers = numbers * (best >= self.min_pos_iou)  # 0 of an object without a box
            if self.gt_max_assign_all:
                taken = ((overlaps == best[:, None]) * numbers[:, None]).amax(dim=0)
            else:
                taken = torch.zeros_like(assigned).scatter_reduce(0, best_box, numbers, "amax")
            assigned = torch.where(taken > 0, taken, assigned)

        labels = gt_labels[(assigned - 1).clamp(min=0)].to(assigned)
        labels = torch.where(assigned > 0, labels, -1)
        return AssignResult(number, assigned, largest, labels=labels)


@TASK_UTILS.register_module()
class RandomSampler(MmdetRandomSampler):
    """mmdet's RandomSampler, which draws on the device of the boxes.

    On a CPU the same boxes are drawn. On a GPU the numbers come from its own generator, whose state
    a checkpoint holds; mmdet's draw them on the host and copy them.
    """

    def random_choice(self, gallery: Tensor | ndarray | list, num: int) -> Tensor | ndarray:
        """Draw some elements.

        Args:
            gallery: The elements; a tensor (n,), or a list or array, which mmdet handles.
            num: How many, at most n.

        Returns:
            (num,), in the order of the draw.
        """
        if not isinstance(gallery, Tensor):
            return super().random_choice(gallery, num)
        order = torch.randperm(len(gallery), device=gallery.device)
        return gallery[order[:num]]
