"""What `fused` launches, in Triton. One program takes a block of positions and one head."""

import triton
import triton.language as tl


@triton.jit
def column_probabilities(
    query, key, log_sum, tokens, found, pixels, columns, channels, factor,
    q_head, q_pixel, q_channel, k_head, k_token, k_channel, l_head, l_pixel, f_head, f_column, f_pixel,
    block: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    """`exp(factor q k^T - lse)`; a query is read once for all columns."""
    pixel, channel, head = tl.program_id(0) * block + tl.arange(0, block), tl.arange(0, width), tl.program_id(1)
    there, wide = pixel < pixels, channel < channels
    at = query + head * q_head + pixel[:, None] * q_pixel + channel[None, :] * q_channel
    q = tl.load(at, mask=there[:, None] & wide[None, :], other=0.0).to(tl.float32)
    lse = tl.load(log_sum + head * l_head + pixel * l_pixel, mask=there, other=0.0).to(tl.float32)
    for column in range(columns):
        token = tl.load(tokens + column)
        k = tl.load(key + head * k_head + token * k_token + channel * k_channel, mask=wide, other=0.0).to(tl.float32)
        p = tl.exp(tl.sum(q * k[None, :], 1) * factor - lse)
        tl.store(found + head * f_head + column * f_column + pixel * f_pixel, p, mask=there)


@triton.jit
def corrected(
    output, value, tokens, probabilities, growth, after, pixels, columns, channels,
    o_head, o_pixel, o_channel, v_head, v_token, v_channel, p_head, p_column, p_pixel, g_head, g_column, g_pixel,
    a_head, a_column, a_block, grown: tl.constexpr, block: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    """`(out + sum g V) / (1 + sum g)` where `out` lies; and each column's sum over the block, for the account."""
    pixel, channel, head = tl.program_id(0) * block + tl.arange(0, block), tl.arange(0, width), tl.program_id(1)
    there, wide = pixel < pixels, channel < channels
    at = output + head * o_head + pixel[:, None] * o_pixel + channel[None, :] * o_channel
    inside = there[:, None] & wide[None, :]
    before = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    total = tl.full([block], 1.0, tl.float32)
    for column in range(columns):
        token = tl.load(tokens + column)
        v = tl.load(value + head * v_head + token * v_token + channel * v_channel, mask=wide, other=0.0).to(tl.float32)
        p = tl.load(probabilities + head * p_head + column * p_column + pixel * p_pixel, mask=there, other=0.0)
        gain = p * tl.load(growth + head * g_head + column * g_column + pixel * g_pixel, mask=there, other=0.0)
        total += gain
        before += gain[:, None] * v[None, :]
    tl.store(at, (before / total[:, None]).to(output.dtype.element_ty), mask=inside)
    for column in range(columns):
        p = tl.load(probabilities + head * p_head + column * p_column + pixel * p_pixel, mask=there, other=0.0)
        if grown:
            p += p * tl.load(growth + head * g_head + column * g_column + pixel * g_pixel, mask=there, other=0.0)
        tl.store(after + head * a_head + column * a_column + tl.program_id(0) * a_block, tl.sum(p / total, 0))
