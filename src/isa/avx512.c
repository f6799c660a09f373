/* x86-64 with AVX-512 F, BW, DQ and VL: 32 registers of 16 floats, 24 of them sums. */
#define NAME "avx512"
#define TABLE fm_avx512
#define LANES 16
#define TILE_ROWS 6
#define TILE_VECS 4
#define ROW_VECS 4
#define PAIR_VECS 4
#include "../fastmlp.h"

#include <immintrin.h>

/* Compresses 16 values and their indices in registers: 4 values a nanosecond where the branchless loop does 1.
 * (The compressing store does the same in memory, and is microcoded on Zen 4.) Each step writes 16 entries and keeps
 * as many as are non-zero; since no more than those before it were kept, it stays inside the row's `width`. */
static inline fm_entry *list_row(fm_entry *entry, const float *x, ptrdiff_t width, int32_t first) {
    const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i index = _mm512_add_epi32(_mm512_set1_epi32(first),
                                     _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    for (ptrdiff_t j = 0; j < width; j += 16, index = _mm512_add_epi32(index, _mm512_set1_epi32(16))) {
        const __m512 value = _mm512_loadu_ps(x + j);
        const __mmask16 kept = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const __m512i indices = _mm512_maskz_compress_epi32(kept, index);
        const __m512i values = _mm512_castps_si512(_mm512_maskz_compress_ps(kept, value));
        const __m512i pairs_low = _mm512_unpacklo_epi32(indices, values);
        const __m512i pairs_high = _mm512_unpackhi_epi32(indices, values);
        _mm512_storeu_si512(entry, _mm512_permutex2var_epi64(pairs_low, low, pairs_high));
        _mm512_storeu_si512(entry + 8, _mm512_permutex2var_epi64(pairs_low, high, pairs_high));
        entry += __builtin_popcount(kept);
    }
    return entry;
}

static inline uint64_t nonzero_lanes(const float *x) {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(x), _mm512_setzero_ps(), _CMP_NEQ_UQ);
}

/* Two neighbours at a time: half as many loads as the compiler makes of the plain loop. */
static inline void read_between(float *out, const float *image, ptrdiff_t ld, const int32_t *place, const float *right,
                                const float *below, ptrdiff_t n) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (ptrdiff_t j = 0; j < n; j += 16) {
        const __m256i first = _mm256_loadu_si256((const __m256i *)(place + j));
        const __m256i second = _mm256_loadu_si256((const __m256i *)(place + j + 8));
        const __m512 x = _mm512_loadu_ps(right + j), y = _mm512_loadu_ps(below + j);
        __m512 lines[2];
        for (int line = 0; line < 2; line++) {
            const __m512 a = _mm512_castpd_ps(_mm512_i32gather_pd(first, image + line * ld, 4));
            const __m512 b = _mm512_castpd_ps(_mm512_i32gather_pd(second, image + line * ld, 4));
            const __m512 left = _mm512_permutex2var_ps(a, even, b), next = _mm512_permutex2var_ps(a, odd, b);
            lines[line] = _mm512_fmadd_ps(x, _mm512_sub_ps(next, left), left);
        }
        const __mmask16 kept = (__mmask16)(n - j < 16 ? (1u << (n - j)) - 1 : 0xFFFFu);
        _mm512_mask_storeu_ps(out + j, kept, _mm512_fmadd_ps(y, _mm512_sub_ps(lines[1], lines[0]), lines[0]));
    }
}

#define LIST_ROW
#define NONZERO_LANES
#define READ_BETWEEN
#include "../kernels.h"
