/* AArch64: 32 registers of 4 floats, 24 of them sums. */
#define NAME "neon"
#define TABLE fm_neon
#define LANES 4
#define TILE_ROWS 6
#define TILE_VECS 4
#define ROW_VECS 16
#define PAIR_VECS 8
#include "../kernels.h"
