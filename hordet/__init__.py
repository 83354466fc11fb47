"""hordet: HorNet for dense prediction on OpenMMLab 2.x.

Importing hordet does one thing: `ops.install()` offers torchvision's operators to an mmcv that was
installed without compiled ones. The components are built by name through `hordet.registry`.
"""

from hordet.ops import install

__version__ = "0.1.0"

install()
