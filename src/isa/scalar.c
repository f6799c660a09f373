/* The baseline that every processor of the architecture runs: the compiler lowers vectors of 16 bytes to what it has
 * (SSE2 on x86-64: 16 registers, no fused multiply-add). */
#define NAME "scalar"
#define TABLE fm_scalar
#define LANES 4
#define TILE_ROWS 2
#define TILE_VECS 4
#define ROW_VECS 8
#define PAIR_VECS 4
#include "../kernels.h"
