/* The kernels, written once. The including file sets the shape of the registers and the table's names:
 *   LANES      floats in a vector
 *   TILE_ROWS  rows of the register tile of the dense product
 *   TILE_VECS  vectors in a row of that tile
 *   ROW_VECS   vectors that a row of the sparse product keeps in registers
 *   PAIR_VECS  vectors that each of two rows of the masked product keeps in registers
 *   TABLE      the table's C name, and NAME the one users see
 * Loops without a sum are plain C: the compiler turns them into vectors of the same width.
 */
#include "fastmlp.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *x) { return *(const vec *)x; }
INLINE void store(float *x, vec value) { *(vec *)x = value; }
INLINE vec splat(float value) { return value - (vec){0}; }

/* In this order: each uses those before it. */
/* clang-format off */
#include "product.h"
#include "masks.h"
#include "lists.h"
#include "moves.h"
#include "elementary.h"
#include "activations.h"
#include "losses.h"
#include "optimizers.h"
#include "normalise.h"
#include "random.h"
#include "images.h"
#include "noise.h"
/* clang-format on */

const fm_kernels TABLE = {
    .name = NAME,
    .dense = dense,
    .sparse = sparse,
    .masked = masked,
    .masked_two = masked_two,
    .row_product = row_product,
    .is_finite = is_finite,
    .narrow = narrow,
    .checksum = checksum,
    .count_nonzero = count_nonzero,
    .mask = mask,
    .list = list,
    .list_columns = list_columns,
    .copy = copy,
    .gather = gather,
    .transpose = transpose,
    .scale = scale,
    .column_sums = column_sums,
    .activate = activate,
    .activate_backward = activate_backward,
    .normalise = normalise,
    .normalise_backward = normalise_backward,
    .normalise_row = normalise_row,
    .blend = blend,
    .drop = drop,
    .drop_entries = drop_entries,
    .add_noise = add_noise,
    .drop_backward = drop_backward,
    .loss = loss,
    .softmax = softmax,
    .update = update,
    .sparse_update = sparse_update,
    .masked_update = masked_update,
    .masked_update_two = masked_update_two,
    .constrain = constrain,
    .shuffle = shuffle,
    .distort = distort,
};
