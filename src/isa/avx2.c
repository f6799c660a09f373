/* x86-64 with AVX2 and FMA: 16 registers of 8 floats, 12 of them sums. */
#define NAME "avx2"
#define TABLE fm_avx2
#define LANES 8
#define TILE_ROWS 6
#define TILE_VECS 2
#define ROW_VECS 8
#include "../kernels.h"
