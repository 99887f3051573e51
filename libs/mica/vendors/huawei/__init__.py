"""Huawei's Ascend chips through DCMI and, where it does not say, npu-smi. Invariant: nothing else here speaks either."""

from mica.vendors.huawei._driver import HuaweiDriver

__all__ = ["HuaweiDriver"]
