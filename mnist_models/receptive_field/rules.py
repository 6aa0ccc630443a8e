"""Which rule the recurrence uses for which operation."""

from __future__ import annotations

from collections.abc import Callable

from mnist_models.receptive_field import kernels, movements
from mnist_models.receptive_field.arguments import Lookup, Rule, pointwise
from mnist_models.receptive_field.geometry import Geometry
from mnist_models.trace import Node


def _group(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


SEVERAL: dict[str, Callable[[Node, Lookup], list[Geometry]]] = {
    "split": movements.split,
    "split_with_sizes": movements.split,
    "unbind": movements.split,
}
RULES: dict[str, Rule] = {
    **_group("convolution", kernels.convolution),
    **_group("max_pool2d_with_indices avg_pool2d max_pool1d avg_pool1d avg_pool3d", kernels.pool),
    **_group("max_pool2d max_pool3d_with_indices", kernels.pool),
    **_group("_adaptive_avg_pool2d adaptive_max_pool2d adaptive_avg_pool1d", kernels.adaptive_pool),
    **_group("mean sum nansum amax amin max min logsumexp var std prod any all", kernels.reduction),
    **_group("var_mean std_mean", kernels.reduction),
    **_group("linalg_vector_norm norm argmax median", kernels.reduction),
    **_group("_softmax _log_softmax cumsum cumprod", kernels.line),
    **_group("native_batch_norm _native_batch_norm_legit cudnn_batch_norm", kernels.batch_norm),
    **_group("_native_batch_norm_legit_no_training miopen_batch_norm", kernels.batch_norm),
    **_group("_batch_norm_with_update _batch_norm_no_update", kernels.batch_norm),
    **_group("native_layer_norm native_group_norm", kernels.layer_norm),
    **_group("mm addmm bmm baddbmm mv addmv dot", kernels.product),
    **_group("cat stack", movements.join),
    **_group("index index_select", movements.pick),
    **_group("constant_pad_nd reflection_pad1d reflection_pad2d", movements.padded),
    **_group("replication_pad1d replication_pad2d", movements.padded),
    **_group("roll", movements.roll),
    **_group("flip", movements.flip),
    **_group("im2col", kernels.im2col),
    **_group("pixel_unshuffle", movements.pixel_unshuffle),
    **_group("pixel_shuffle", movements.pixel_shuffle),
    **_group("upsample_nearest2d upsample_nearest1d", movements.upsample),
    **_group("_upsample_nearest_exact2d _upsample_nearest_exact1d", movements.upsample),
    **_group("upsample_bilinear2d upsample_bicubic2d upsample_linear1d", movements.interpolate),
    **_group("_upsample_bilinear2d_aa _upsample_bicubic2d_aa", movements.interpolate),
    **_group("glu", kernels.glu),
    **_group("channel_shuffle native_channel_shuffle", kernels.channel_shuffle),
    **_group("view _unsafe_view unsqueeze squeeze _reshape_alias reshape", movements.viewed),
    **_group("as_strided", movements.strided),
    **_group("permute transpose t", movements.permute),
    **_group("expand", movements.expand),
    **_group("repeat", movements.repeat),
    **_group("slice", movements.cut_slice),
    **_group("select", movements.select),
    **_group("unfold", movements.unfold),
    **_group("copy_", movements.copied),
    **_group("clone detach alias _to_copy lift_fresh contiguous relu relu_", pointwise),
    **_group("native_dropout masked_fill masked_fill_ fill_ zero_ fill zero", pointwise),
    **_group("prelu _prelu_kernel", pointwise),
    **_group("fake_quantize_per_tensor_affine_cachemask", pointwise),
    # Elementwise, though not every version of torch says so.
    **_group("hardswish hardsigmoid hardtanh elu celu selu gelu silu mish leaky_relu", pointwise),
    **_group("softplus softshrink hardshrink threshold rrelu_with_noise clamp", pointwise),
    **_group("log_sigmoid_forward", pointwise),
    **_group("_scaled_dot_product_flash_attention_for_cpu", kernels.attention),
    **_group("_scaled_dot_product_flash_attention", kernels.attention),
    **_group("_scaled_dot_product_efficient_attention", kernels.attention),
}
