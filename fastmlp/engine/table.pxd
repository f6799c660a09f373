"""The C surface, for the Cython modules; src/fastmlp.h documents it."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "fastmlp.h" nogil:
    enum:
        FM_PANEL
        FM_PAD
        FM_IDENTITY
        FM_SGD
        FM_NESTEROV
        FM_ADAM
        FM_AFFINE

    ctypedef struct fm_dense:
        const float *data
        ptrdiff_t ld, column, ld_panel

    ctypedef struct fm_entry:
        int32_t index
        float value

    ctypedef struct fm_sparse:
        const fm_entry *entries
        const ptrdiff_t *begin
        const ptrdiff_t *end

    ctypedef struct fm_masked:
        const float *data
        const uint64_t *masks
        ptrdiff_t ld_panel, ld_masks

    ctypedef struct fm_apart:
        ptrdiff_t c, start, b

    ctypedef struct fm_loss:
        int kind
        ptrdiff_t n_parameters
        const float *parameters

    ctypedef struct fm_step:
        int rule
        float rate, decay, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, epsilon, clip_value, l2

    ctypedef struct fm_distortion:
        ptrdiff_t height, width
        float low[6]
        float high[6]
        const float *along_rows
        const float *along_columns

    ctypedef struct fm_noise:
        uint32_t key[2]
        uint32_t dropped
        float scale, deviation
        uint32_t first

    ctypedef struct fm_kernels:
        const char *name
        void (*dense)(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_dense a, const float *b,
                      ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) noexcept nogil
        void (*sparse)(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_sparse a, const float *b,
                       ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t width) noexcept nogil
        void (*masked)(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                       ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) noexcept nogil
        void (*masked_two)(float *c, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                           fm_apart apart, ptrdiff_t n, ptrdiff_t k) noexcept nogil
        void (*row_product)(float *y, const float *x, const float *weights, ptrdiff_t k, ptrdiff_t m) noexcept nogil
        void (*is_finite)(int *finite, const float *x, ptrdiff_t n) noexcept nogil
        void (*narrow)(float *x, const double *wide, ptrdiff_t n) noexcept nogil
        void (*checksum)(uint64_t *sum, const uint32_t *words, ptrdiff_t n, uint64_t first) noexcept nogil
        void (*count_nonzero)(ptrdiff_t *count, const float *x, ptrdiff_t n) noexcept nogil
        void (*mask)(uint64_t *masks, const float *x, ptrdiff_t n) noexcept nogil
        void (*list)(fm_entry *entries, ptrdiff_t *count, const float *x, ptrdiff_t width,
                     int32_t first) noexcept nogil
        void (*list_columns)(fm_entry *entries, ptrdiff_t *end, const ptrdiff_t *begin, fm_sparse a, ptrdiff_t n,
                             ptrdiff_t columns, int32_t first) noexcept nogil
        void (*copy)(float *out, ptrdiff_t ld_out, const float *x, ptrdiff_t ld_in, ptrdiff_t rows,
                     ptrdiff_t columns) noexcept nogil
        void (*gather)(float *out, ptrdiff_t ld_out, ptrdiff_t ld_panel, const float *x, const int64_t *rows,
                       ptrdiff_t n, ptrdiff_t k) noexcept nogil
        void (*transpose)(float *out, ptrdiff_t ld_out, const float *x, ptrdiff_t ld_in, ptrdiff_t rows,
                          ptrdiff_t columns) noexcept nogil
        void (*scale)(float *x, float factor, ptrdiff_t n) noexcept nogil
        void (*column_sums)(float *sums, const float *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t width) noexcept nogil
        void (*activate)(float *h, ptrdiff_t count, int activation) noexcept nogil
        void (*activate_backward)(float *dz, const float *read, ptrdiff_t count, int activation) noexcept nogil
        void (*drop)(float *h, ptrdiff_t ld, const int64_t *rows, const fm_noise *how, ptrdiff_t panel, ptrdiff_t n,
                     ptrdiff_t units) noexcept nogil
        void (*add_noise)(float *z, ptrdiff_t ld, const int64_t *rows, const fm_noise *how, ptrdiff_t panel,
                          ptrdiff_t n, ptrdiff_t units) noexcept nogil
        void (*drop_entries)(fm_entry *out, ptrdiff_t *count, const fm_entry *entries, ptrdiff_t n, int64_t row,
                             const fm_noise *how) noexcept nogil
        void (*drop_backward)(float *dh, float *plain, const float *h, ptrdiff_t count,
                              const fm_noise *how) noexcept nogil
        void (*normalise)(float *x, float *h, ptrdiff_t ld, float *mean, float *variance, float *inverse,
                          const float *scale, const float *bias, ptrdiff_t n, ptrdiff_t width) noexcept nogil
        void (*normalise_backward)(float *dh, ptrdiff_t ld, float *dbias, float *dscale, const float *x,
                                   const float *inverse, const float *scale, ptrdiff_t n,
                                   ptrdiff_t width) noexcept nogil
        void (*normalise_row)(float *h, const float *bias, const float *scale, const float *mean,
                              const float *variance, ptrdiff_t m) noexcept nogil
        void (*blend)(float *x, const float *other, float share, ptrdiff_t n) noexcept nogil
        void (*loss)(float *logits, float *losses, ptrdiff_t ld, const int64_t *labels, const float *targets,
                     const float *scale, ptrdiff_t n, ptrdiff_t m, const fm_loss *how) noexcept nogil
        void (*softmax)(float *probabilities, ptrdiff_t ld, ptrdiff_t n, ptrdiff_t m) noexcept nogil
        void (*update)(float *weights, float *moment_1, float *moment_2, const float *dweights, ptrdiff_t count,
                       const fm_step *step) noexcept nogil
        void (*sparse_update)(float *weights, float *moment_1, float *moment_2, ptrdiff_t ld, fm_sparse a,
                              const float *b, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t width,
                              const fm_step *step) noexcept nogil
        void (*masked_update)(float *weights, float *moment_1, float *moment_2, const float *start, ptrdiff_t ld_start,
                              fm_masked a, const float *b, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width,
                              const fm_step *step) noexcept nogil
        void (*masked_update_two)(float *weights, float *moment_1, float *moment_2, const float *start,
                                  ptrdiff_t ld_start, fm_masked a, const float *b, fm_apart apart, ptrdiff_t n,
                                  ptrdiff_t k, const fm_step *step) noexcept nogil
        void (*constrain)(float *weights, ptrdiff_t ld, ptrdiff_t k, ptrdiff_t width, float max_norm) noexcept nogil
        void (*shuffle)(int64_t *order, const uint32_t *keys, ptrdiff_t n) noexcept nogil
        void (*distort)(float *out, float *scratch, const float *image, const fm_distortion *how, const uint32_t *epoch,
                        uint32_t row) noexcept nogil

    const fm_kernels *const fm_compiled[]
    void fm_runs(int *runs, const fm_kernels *kernels) noexcept nogil
    void fm_flush_denormals(uint64_t *saved) noexcept nogil
    void fm_restore_denormals(const uint64_t *saved) noexcept nogil


# The table in use, chosen when the module is imported.
cdef const fm_kernels *kernels


cdef inline float *aligned(float *memory) noexcept nogil:
    """The first cache line that starts in memory."""
    return <float *>((<size_t>memory + 63) // 64 * 64)
