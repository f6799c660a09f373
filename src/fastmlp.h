/* The whole C surface: the kernels, as one table of function pointers per instruction set.
 *
 * Contract of every kernel: it returns nothing, allocates nothing, and knows nothing of Python, threads or errors;
 * Cython has checked the sizes. Outputs come first, then inputs, then sizes. `ld` is the distance between rows.
 *
 * Matrices of n rows and m columns are kept in panels of FM_PANEL columns, padded with zeros to a multiple of
 * FM_PAD; a kernel works on one panel, whose `width` is a multiple of FM_PAD and at most FM_PANEL.
 */
#ifndef FASTMLP_H
#define FASTMLP_H

#include <stddef.h>
#include <stdint.h>

#define FM_PANEL 64
#define FM_PAD 16

enum fm_activation {
    FM_IDENTITY,
    FM_RELU,
    FM_TANH,
    FM_LOGISTIC,
    FM_LEAKY_RELU,
    FM_ELU,
    FM_SELU,
    FM_GELU,
    FM_GELU_TANH,
    FM_SILU,
    FM_MISH,
    FM_SOFTPLUS
};

/* A loss, with label smoothing, gamma, delta, or the levels of quantiles for its parameters. */
enum fm_loss_kind {
    FM_CROSS_ENTROPY,
    FM_BINARY_CROSS_ENTROPY,
    FM_SQUARED_ERROR,
    FM_FOCAL,
    FM_ABSOLUTE_ERROR,
    FM_HUBER,
    FM_QUANTILE,
    FM_POISSON
};

typedef struct {
    int kind;
    ptrdiff_t n_parameters;
    const float *parameters;
} fm_loss;

/* A matrix read through strides: element (i, p) is data[i * ld + (p / FM_PANEL) * ld_panel + (p % FM_PANEL) * column],
 * so that one kernel reads X, its transpose, and activations in panels. */
typedef struct {
    const float *data;
    ptrdiff_t ld, column, ld_panel;
} fm_dense;

/* A matrix as the lists of its non-zero values: row i is entries[begin[i]] up to entries[end[i]]. */
typedef struct {
    int32_t index;
    float value;
} fm_entry;

typedef struct {
    const fm_entry *entries;
    const ptrdiff_t *begin, *end;
} fm_sparse;

/* A matrix in panels of FM_PANEL columns, rows FM_PANEL apart, with masks of what is not zero: element (i, p) is
 * data[(p / FM_PANEL) * ld_panel + i * FM_PANEL + p % FM_PANEL], bit p % FM_PANEL of masks[(p / FM_PANEL) * ld_masks +
 * i] says whether to read it. */
typedef struct {
    const float *data;
    const uint64_t *masks;
    ptrdiff_t ld_panel, ld_masks;
} fm_masked;

/* From a panel of c, start or b to its neighbour, whose rows are FM_PANEL floats apart, too. */
typedef struct {
    ptrdiff_t c, start, b;
} fm_apart;

/* One step of an optimizer. Adam's rate is
 * learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) and its epsilon is scaled by sqrt(1 - beta_2^t): algorithm 1 of
 * Kingma & Ba (2015) with the corrections taken out of the loop. beta_1 is SGD's momentum. decay is
 * 1 - learning_rate * weight_decay. A gradient's components are held within clip_value, where that is not 0; then l2
 * times the weights is added to them. */
enum fm_rule { FM_SGD, FM_NESTEROV, FM_ADAM };

typedef struct {
    int rule;
    float rate, decay, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, epsilon, clip_value, l2;
} fm_step;

/* What is drawn for an image: an affine map of its own about the image's centre, each number uniform from low to high;
 * columns count to the right, rows down, and the rotation, in radians, goes the other way than the clock's hands. */
enum fm_affine { FM_ROTATION, FM_SCALE_X, FM_SCALE_Y, FM_SHEAR, FM_SHIFT_X, FM_SHIFT_Y, FM_AFFINE };

/* How images (height, width) are put out of shape: by an affine map, and by a field of displacements, uniform in [-1,
 * 1] before along_columns (height, height) from the left and along_rows (width, padded width) from the right smooth it;
 * along_rows is NULL where there is none. */
typedef struct {
    ptrdiff_t height, width;
    float low[FM_AFFINE], high[FM_AFFINE];
    const float *along_rows, *along_columns;
} fm_distortion;

/* What is random about a layer's values in training. Its key is that of an epoch and a layer; of 65,536 values so many
 * are dropped, and the others multiplied by a scale; deviation is the standard deviation of Gaussian noise. */
typedef struct {
    uint32_t key[2], dropped;
    float scale, deviation;
    uint32_t first; /* number of X's first row, where its rows are some of more */
} fm_noise;

typedef struct {
    const char *name;

    /* c (n, width) = start + a (n, k) b (k, width). start's rows are ld_start apart: 0 repeats one row, a bias. */
    void (*dense)(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_dense a, const float *b,
                  ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width);
    void (*sparse)(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_sparse a, const float *b,
                   ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t width);

    void (*masked)(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                   ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width);
    /* The same for two whole panels. */
    void (*masked_two)(float *c, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b, fm_apart apart,
                       ptrdiff_t n, ptrdiff_t k);

    /* One row y (m) = x (k) weights + bias, skipping zeros of x; weights (k, m) are row-major, and bias follows. */
    void (*row_product)(float *y, const float *x, const float *weights, ptrdiff_t k, ptrdiff_t m);

    void (*is_finite)(int *finite, const float *x, ptrdiff_t n);
    /* x (n) = in, rounded; what is too large becomes infinite. */
    void (*narrow)(float *x, const double *in, ptrdiff_t n);
    /* What n words have, as pairs from place `first` on, and hardly any others: it is added to that of other pairs. */
    void (*checksum)(uint64_t *sum, const uint32_t *words, ptrdiff_t n, uint64_t first);
    void (*count_nonzero)(ptrdiff_t *count, const float *x, ptrdiff_t n);
    /* Bit j of masks[i] says whether column j of row i of x (n, FM_PANEL) is not zero. */
    void (*mask)(uint64_t *masks, const float *x, ptrdiff_t n);
    /* Lists the non-zero values of x (width), a multiple of FM_PAD, for which entries has room; the first one has index
     * `first`. */
    void (*list)(fm_entry *entries, ptrdiff_t *count, const float *x, ptrdiff_t width, int32_t first);
    /* Lists the entries of n rows by column: those of column first + j from entries[begin[j]] on, with room for n;
     * their index is the row. Sets end. */
    void (*list_columns)(fm_entry *entries, ptrdiff_t *end, const ptrdiff_t *begin, fm_sparse a, ptrdiff_t n,
                         ptrdiff_t columns, int32_t first);

    void (*copy)(float *out, ptrdiff_t ld_out, const float *in, ptrdiff_t ld_in, ptrdiff_t rows, ptrdiff_t columns);
    /* Row i of out (n, k) is row rows[i] of in, where rows lie one after the other; out is in panels, ld_panel apart.
     */
    void (*gather)(float *out, ptrdiff_t ld_out, ptrdiff_t ld_panel, const float *in, const int64_t *rows, ptrdiff_t n,
                   ptrdiff_t k);
    void (*transpose)(float *out, ptrdiff_t ld_out, const float *in, ptrdiff_t ld_in, ptrdiff_t rows,
                      ptrdiff_t columns);
    void (*scale)(float *x, float factor, ptrdiff_t n);
    void (*column_sums)(float *sums, const float *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t width);

    /* In place: z becomes h; dh becomes dz = dh * (dh / dz), the derivative expressed by the output h or by z. */
    void (*activate)(float *h, ptrdiff_t count, int activation);
    void (*activate_backward)(float *dz, const float *read, ptrdiff_t count, int activation);

    /* Normalise the columns of a panel x (n, width) of sums by their mean and variance, in place, and h = scale x +
     * bias; rows of both are ld apart. variance is the unbiased one, inverse is 1 / sqrt(biased variance + 1e-5).
     * Backward dh, the gradient of h, becomes that of the sums. */
    void (*normalise)(float *x, float *h, ptrdiff_t ld, float *mean, float *variance, float *inverse,
                      const float *scale, const float *bias, ptrdiff_t n, ptrdiff_t width);
    void (*normalise_backward)(float *dh, ptrdiff_t ld, float *dbias, float *dscale, const float *x,
                               const float *inverse, const float *scale, ptrdiff_t n, ptrdiff_t width);
    /* Normalise one row h (m), to which the bias has been added already, by given means and variances. */
    void (*normalise_row)(float *h, const float *bias, const float *scale, const float *mean, const float *variance,
                          ptrdiff_t m);
    /* x (n) = (1 - share) x + share other. */
    void (*blend)(float *x, const float *other, float share, ptrdiff_t n);
    /* Dropout and noise of a panel of so many units, rows ld apart, ld at most FM_PANEL; which of X each is, rows says.
     * What is dropped, and what is beyond the units, becomes -0, and nothing else does. */
    void (*drop)(float *h, ptrdiff_t ld, const int64_t *rows, const fm_noise *how, ptrdiff_t panel, ptrdiff_t n,
                 ptrdiff_t units);
    void (*add_noise)(float *z, ptrdiff_t ld, const int64_t *rows, const fm_noise *how, ptrdiff_t panel, ptrdiff_t n,
                      ptrdiff_t units);
    /* The same dropout of n entries of a row of X: lists those that are left, for which out has room. */
    void (*drop_entries)(fm_entry *out, ptrdiff_t *count, const fm_entry *entries, ptrdiff_t n, int64_t row,
                         const fm_noise *how);
    /* In place: the gradient of dropped h (count) becomes that of what h was; `plain` is that, where it was kept. */
    void (*drop_backward)(float *dh, float *plain, const float *h, ptrdiff_t count, const fm_noise *how);

    /* The loss of each row; its gradient, times scale[i], takes the place of the logits. Targets are n labels, which
     * cross-entropy and the focal loss alone read, or, where labels is NULL, n rows of m values, one after the other;
     * for quantiles of m / n_parameters values. */
    void (*loss)(float *logits, float *losses, ptrdiff_t ld, const int64_t *labels, const float *targets,
                 const float *scale, ptrdiff_t n, ptrdiff_t m, const fm_loss *how);
    /* In place: logits become probabilities. */
    void (*softmax)(float *probabilities, ptrdiff_t ld, ptrdiff_t n, ptrdiff_t m);

    /* `count` parameters and their two moments take a gradient. */
    void (*update)(float *weights, float *moment_1, float *moment_2, const float *dweights, ptrdiff_t count,
                   const fm_step *step);
    /* The same for a panel (n, width) whose gradient is a b, which is never stored. */
    void (*sparse_update)(float *weights, float *moment_1, float *moment_2, ptrdiff_t ld, fm_sparse a, const float *b,
                          ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t width, const fm_step *step);
    /* The same for a gradient start + a b; weights and moments have their rows FM_PANEL apart. */
    void (*masked_update)(float *weights, float *moment_1, float *moment_2, const float *start, ptrdiff_t ld_start,
                          fm_masked a, const float *b, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width,
                          const fm_step *step);
    /* The same for two whole panels of weights, moments and b; apart.c is that of the former. */
    void (*masked_update_two)(float *weights, float *moment_1, float *moment_2, const float *start, ptrdiff_t ld_start,
                              fm_masked a, const float *b, fm_apart apart, ptrdiff_t n, ptrdiff_t k,
                              const fm_step *step);

    /* Columns of weights (k, width) whose norm is above max_norm are multiplied down to it. */
    void (*constrain)(float *weights, ptrdiff_t ld, ptrdiff_t k, ptrdiff_t width, float max_norm);

    /* The numbers from 0 to n - 1, n at most 2^32, in an order that 6 keys decide. */
    void (*shuffle)(int64_t *order, const uint32_t *keys, ptrdiff_t n);

    /* An image (height, width), put out of shape by what the epoch's 2 keys and the row decide; pixels beyond it are 0.
     * scratch has room for 4 fields (height, padded width), and an image with a frame of a pixel. */
    void (*distort)(float *out, float *scratch, const float *image, const fm_distortion *how, const uint32_t *epoch,
                    uint32_t row);
} fm_kernels;

/* The instruction sets compiled in, best first, closed by NULL; and whether this processor runs one of them. */
extern const fm_kernels *const fm_compiled[];
void fm_runs(int *runs, const fm_kernels *kernels);

/* Denormals are zero in the calling thread until it restores what it saved. */
void fm_flush_denormals(uint64_t *saved);
void fm_restore_denormals(const uint64_t *saved);

#endif
