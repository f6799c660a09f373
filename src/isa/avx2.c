/* x86-64 with AVX2 and FMA: 16 registers of 8 floats, 12 of them sums. */
#define NAME "avx2"
#define TABLE fm_avx2
#define LANES 8
#define TILE_ROWS 6
#define TILE_VECS 2
#define ROW_VECS 8
#define PAIR_VECS 4
#include "../fastmlp.h"

#include <immintrin.h>

static inline uint64_t nonzero_lanes(const float *x) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x), _mm256_setzero_ps(), _CMP_NEQ_UQ));
}

#define NONZERO_LANES
#include "../kernels.h"
