"""What a kernel body needs above it on Metal, CUDA and in C++: macros, types, the draw of bits.

CUDA's expf ends in a product, which its compiler would fuse with a sum behind it: so 0 is added by
an addition that is never fused.

SNN_VOTE(array, time, condition) writes the condition of 32 neighbouring threads as one word: by a
ballot of the warp or SIMD group, whose size is 32; in C++ the grid gathers what each thread noted.

snn_reads(array) is an array that CUDA reads through its cache for what no kernel running writes.
"""

from __future__ import annotations

from snnx.emit.philox import c_draw

COMMON = """\
#define SNN_MAX(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
#define SNN_MIN(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))
#define SNN_ABS(a) ((a) < 0.0f ? -(a) : (a))
#define SNN_WORD(array, time, ballot) { \\
    const uint snn_word = ballot; \\
    if (SNN_GID % 32 == 0) array[(time) * row + SNN_GID / 32] = snn_word; \\
}
"""

METAL_HEADER = """\
#pragma METAL fp contract(off)
#define SNN_DEVICE
#define SNN_GID thread_position_in_grid.x
#define SNN_GROUP threadgroup_position_in_grid.x
#define SNN_LANE thread_position_in_threadgroup.x
#define SNN_WIDTH threads_per_threadgroup.x
#define SNN_SHARED(type, name, count) threadgroup type name[count]
#define SNN_BARRIER metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup)
#define SNN_GUARD(c) if (!(c)) return
#define SNN_MUL(a, b) ((a) * (b))
#define SNN_DIV(a, b) ((a) / (b))
#define SNN_HIGH(a, b) metal::mulhi((uint)(a), (uint)(b))
#define SNN_FMA(a, b, c) metal::fma(a, b, c)
#define SNN_EXP(a) metal::precise::exp(a)
#define SNN_LOG(a) metal::precise::log(a)
#define SNN_TANH(a) metal::precise::tanh(a)
#define SNN_ATAN(a) metal::precise::atan(a)
#define SNN_SQRT(a) metal::precise::sqrt(a)
#define SNN_BALLOT(c) ((uint)(metal::simd_vote::vote_t)metal::simd_ballot(c))
#define SNN_VOTE(array, time, c) SNN_WORD(array, time, SNN_BALLOT(c))
"""

CUDA_HEADER = """\
typedef unsigned int uint;
#define SNN_DEVICE __device__
#define SNN_GID (blockIdx.x * blockDim.x + threadIdx.x)
#define SNN_GROUP blockIdx.x
#define SNN_LANE threadIdx.x
#define SNN_WIDTH blockDim.x
#define SNN_SHARED(type, name, count) __shared__ type name[count]
#define SNN_BARRIER __syncthreads()
#define SNN_GUARD(c) if (!(c)) return
#define SNN_MUL(a, b) __fmul_rn(a, b)
#define SNN_DIV(a, b) __fdiv_rn(a, b)
#define SNN_HIGH(a, b) __umulhi(a, b)
#define SNN_FMA(a, b, c) __fmaf_rn(a, b, c)
#define SNN_EXP(a) __fadd_rn(expf(a), 0.0f)
#define SNN_LOG(a) logf(a)
#define SNN_TANH(a) tanhf(a)
#define SNN_ATAN(a) atanf(a)
#define SNN_SQRT(a) __fsqrt_rn(a)
#define SNN_BALLOT(c) __ballot_sync(0xFFFFFFFFu, c)
#define SNN_VOTE(array, time, c) SNN_WORD(array, time, SNN_BALLOT(c))
template <typename T>
struct snn_read_only {
    const T* array;
    __device__ T operator[](size_t i) const { return __ldg(array + i); }
};
template <>
struct snn_read_only<bool> {
    const bool* array;
    __device__ bool operator[](size_t i) const { return __ldg((const uint8_t*)array + i) != 0; }
};
template <typename T>
__device__ snn_read_only<T> snn_reads(const T* array) { return {array}; }
"""

CPP_HEADER = """\
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>
typedef unsigned int uint;
typedef _Float16 half;
struct bfloat {
    uint16_t raw;
    bfloat(float value) {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        raw = (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
    }
    operator float() const {
        uint32_t bits = (uint32_t)raw << 16;
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    }
};
static inline uint snn_gathered(const uint8_t* votes) {
    uint word = 0;
    for (uint i = 0; i < 32; i += 8) {
        uint64_t eight;
        std::memcpy(&eight, votes + i, 8);
        word |= (uint)((eight * 0x0102040810204080u) >> 56) << i;
    }
    return word;
}
#define SNN_DEVICE static
#define SNN_RESTRICT __restrict__
#ifdef __clang__
#define SNN_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define SNN_INDEPENDENT _Pragma("GCC ivdep")
#endif
#define SNN_GUARD(c)
#define SNN_MUL(a, b) ((a) * (b))
#define SNN_DIV(a, b) ((a) / (b))
#define SNN_HIGH(a, b) ((uint)(((uint64_t)(a) * (uint64_t)(b)) >> 32))
#define SNN_FMA(a, b, c) std::fma(a, b, c)
#define SNN_EXP(a) std::exp(a)
#define SNN_LOG(a) std::log(a)
#define SNN_TANH(a) std::tanh(a)
#define SNN_ATAN(a) std::atan(a)
#define SNN_SQRT(a) std::sqrt(a)
#define SNN_VOTE(array, time, c) votes[(size_t)(time) * 32 + lane] = (c)
"""


def header(target: str) -> str:
    """Return the macros and functions of "metal", "cuda" or "cpp" that a body needs."""
    own = {"metal": METAL_HEADER, "cuda": CUDA_HEADER, "cpp": CPP_HEADER}[target]
    return f"{own}{COMMON}{c_draw()}\n"
