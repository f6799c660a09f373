"""What is random about the input or a layer's units in training."""

from libc.stdint cimport uint32_t, uint64_t

from fastmlp.engine.table cimport fm_noise


cdef inline fm_noise make_noise(double dropout, double deviation) noexcept:
    """Noise of a rate of dropout, in units of 2^-16, and a standard deviation, as yet without a key."""
    cdef fm_noise noise
    noise.key[0] = noise.key[1] = noise.first = 0
    noise.dropped = min(65535, <int>(65536 * dropout + 0.5))
    noise.scale, noise.deviation = 65536.0 / (65536 - noise.dropped), deviation
    return noise


cdef inline void set_key(fm_noise *noise, uint64_t key, Py_ssize_t layer) noexcept nogil:
    """Draw by the epoch's key, for the units of a layer, from 1, or for the input, 0: each has a stream of its own."""
    cdef uint64_t own = key + (layer + 1) * <uint64_t>0x9E3779B97F4A7C15
    noise.key[0], noise.key[1] = <uint32_t>own, <uint32_t>(own >> 32)
