/* Checks every kernel of every table that this processor runs against plain loops in double precision, without Python:
 * .ci/c runs it here, and under an emulator of AArch64. */
#define _DEFAULT_SOURCE /* mmap */
#include "../src/fastmlp.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

_Static_assert(sizeof(fm_kernels) == 37 * sizeof(void *), "a name and 36 kernels: check the new one as well");

static const ptrdiff_t SIZES[] = {1, 2, 3, 7, 63, 64, 65, 100, 113};
static const ptrdiff_t IMAGES[] = {1, 2, 15, 28, 70}; /* heights and widths */

/* ---- Memory and numbers ----------------------------------------------------------------------------------------- */

#define SLOTS 256
#define SLOT_BYTES (1 << 19)

static int used; /* slots */

/* Memory that ends where a page without access begins: to read or write past it is fatal, under the emulator too. */
static void *take(ptrdiff_t count, size_t size) {
    static char *ends[SLOTS];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)count * size;
    if (used == SLOTS || bytes > SLOT_BYTES) abort();
    if (!ends[used]) {
        char *memory = mmap(NULL, SLOT_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory + SLOT_BYTES, page, PROT_NONE)) abort();
        ends[used] = memory + SLOT_BYTES;
    }
    return ends[used++] - bytes;
}

/* In (-1, 1): a linear congruential generator with the constants of Knuth's MMIX. */
static float uniform(void) {
    static uint64_t state = 1;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)((double)(state >> 40) / (1 << 23) - 1);
}

/* Random numbers, a share of them not zero. Outputs and what lies between their rows are random at first as well, so
 * that what a kernel leaves out or writes too much is found. */
static float *floats(ptrdiff_t count, double share) {
    float *x = take(count, sizeof *x);
    for (ptrdiff_t i = 0; i < count; i++) x[i] = fabsf(uniform()) < share ? uniform() : 0;
    return x;
}

static void copy(double *out, const float *x, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i++) out[i] = x[i];
}

static double *doubles(const float *x, ptrdiff_t count) {
    double *out = take(count, sizeof *out);
    copy(out, x, count);
    return out;
}

static ptrdiff_t span(ptrdiff_t rows, ptrdiff_t ld, ptrdiff_t columns) { return (rows - 1) * ld + columns; }

static ptrdiff_t padded(ptrdiff_t m) { return (m + FM_PAD - 1) / FM_PAD * FM_PAD; }

/* ---- The check -------------------------------------------------------------------------------------------------- */

static const char *table;
static ptrdiff_t sizes[3];
static int passed, failed;

static ptrdiff_t first_wrong(const float *actual, const double *expected, ptrdiff_t count, double tolerance) {
    for (ptrdiff_t i = 0; i < count; i++) {
        const int same = actual[i] == expected[i] || (isnan(actual[i]) && isnan(expected[i]));
        if (!same && !(fabs(actual[i] - expected[i]) <= tolerance)) return i;
    }
    return count;
}

/* The rounding errors of a sum add up like a random walk: the tolerance grows with the square root of the summed
 * length, which is 0 where numbers only move. `terms` is the magnitude of what is summed, where the sum may be smaller.
 * The negative control is part of every check: a right result that is put off by 1 % must be wrong. */
static void check(const char *kernel, int variant, float *actual, const double *expected, ptrdiff_t count,
                  ptrdiff_t summed, double terms) {
    ptrdiff_t largest = 0;
    for (ptrdiff_t i = 1; i < count; i++)
        if (isfinite(expected[i]) && fabs(expected[i]) > fabs(expected[largest])) largest = i;
    const double magnitude = fmax(fabs(expected[largest]), terms);
    const double tolerance = 4 * FLT_EPSILON * sqrt((double)summed) * magnitude;
    const ptrdiff_t wrong = first_wrong(actual, expected, count, tolerance);
    const float right = actual[largest];
    actual[largest] += 0.01f * (magnitude > 0 ? (float)magnitude : 1);
    const int caught = first_wrong(actual, expected, count, tolerance) < count;
    actual[largest] = right;
    if (wrong == count && caught) {
        passed++;
        return;
    }
    failed++;
    printf("%s: %s %d of sizes %td, %td, %td: ", table, kernel, variant, sizes[0], sizes[1], sizes[2]);
    if (wrong < count)
        printf("[%td] is %.9g, not %.9g (within %.2g)\n", wrong, actual[wrong], expected[wrong], tolerance);
    else
        puts("an error of 1 % is not caught");
}

/* ---- Products and lists ----------------------------------------------------------------------------------------- */

static double *product(const float *x, const float *b, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) {
    double *c = take(n * width, sizeof *c);
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < width; j++) {
            c[i * width + j] = 0;
            for (ptrdiff_t p = 0; p < k; p++) c[i * width + j] += (double)x[i * k + p] * b[p * ldb + j];
        }
    return c;
}

/* List i has the non-zero values of x[i * row + j * column], with index first + j, and room for `length`. */
static fm_sparse lists_of(const float *x, ptrdiff_t row, ptrdiff_t column, ptrdiff_t n, ptrdiff_t length, int first) {
    fm_entry *entries = take(n * length, sizeof *entries);
    ptrdiff_t *begin = take(n, sizeof *begin), *end = take(n, sizeof *end);
    for (ptrdiff_t i = 0; i < n; i++) {
        begin[i] = end[i] = i * length;
        for (int j = 0; j < length; j++)
            if (x[i * row + j * column] != 0) entries[end[i]++] = (fm_entry){first + j, x[i * row + j * column]};
    }
    return (fm_sparse){entries, begin, end};
}

/* The lengths of the lists, then their indices and values. */
static void check_lists(const fm_entry *entries, const ptrdiff_t *end, fm_sparse expected, ptrdiff_t n,
                        ptrdiff_t length, const char *kernel) {
    float *actual = take(n * (2 * length + 1), sizeof *actual);
    double *e = take(n * (2 * length + 1), sizeof *e);
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        actual[count] = (float)end[i], e[count++] = (double)expected.end[i];
        for (ptrdiff_t p = expected.begin[i]; p < expected.end[i]; p++) {
            actual[count] = (float)entries[p].index, e[count++] = expected.entries[p].index;
            actual[count] = entries[p].value, e[count++] = expected.entries[p].value;
        }
    }
    check(kernel, 0, actual, e, count, 0, 0);
}

/* The rows of b (k, width), FM_PANEL apart. */
static float *rows_apart(const float *b, ptrdiff_t ldb, ptrdiff_t k, ptrdiff_t width) {
    float *out = floats(span(k, FM_PANEL, width), 1);
    for (ptrdiff_t p = 0; p < k; p++)
        for (ptrdiff_t j = 0; j < width; j++) out[p * FM_PANEL + j] = b[p * ldb + j];
    return out;
}

/* x (n, k) in panels, with masks of it; what they leave out is random, as are the columns past k. */
static fm_masked masked_of(const float *x, ptrdiff_t n, ptrdiff_t k) {
    const ptrdiff_t count = (k + FM_PANEL - 1) / FM_PANEL, ld = n * FM_PANEL + 3, ld_masks = n + 1;
    float *data = floats(span(count, ld, n * FM_PANEL), 1);
    uint64_t *masks = take(span(count, ld_masks, n), sizeof *masks);
    for (ptrdiff_t p = 0; p < count * FM_PANEL; p++)
        for (ptrdiff_t i = 0, panel = p / FM_PANEL, j = p % FM_PANEL; i < n; i++) {
            uint64_t *mask = masks + panel * ld_masks + i;
            if (j == 0) *mask = 0;
            if (p >= k || x[i * k + p] == 0) continue;
            data[panel * ld + i * FM_PANEL + j] = x[i * k + p];
            *mask |= (uint64_t)1 << j;
        }
    return (fm_masked){data, masks, ld, ld_masks};
}

static void check_products(const fm_kernels *f, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) {
    const ptrdiff_t ldb = width + 5, ldc = width + 3, count = span(n, ldc, width), panel = n * FM_PANEL;
    const float *x = floats(n * k, 0.5), *b = floats(span(k, ldb, width), 1);
    const double *xb = product(x, b, ldb, n, k, width);
    const fm_sparse lists = lists_of(x, k, 1, n, k, 0);
    const fm_masked masked = masked_of(x, n, k);
    const float *spread = rows_apart(b, ldb, k, width);
    float *columns = floats(k * n, 1), *panels = floats((k / FM_PANEL + 1) * panel, 1);
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t p = 0; p < k; p++)
            columns[p * n + i] = panels[p / FM_PANEL * panel + i * FM_PANEL + p % FM_PANEL] = x[i * k + p];
    const fm_dense layouts[] = {{x, k, 1, FM_PANEL}, {columns, 1, n, panel}, {panels, FM_PANEL, 1, panel}};
    float *c = floats(count, 1);
    double *e = doubles(c, count);
    const float *starts[] = {floats(width, 1), floats(span(n, width + 1, width), 1), c};
    const ptrdiff_t ld_starts[] = {0, width + 1, ldc};
    const char *const others[] = {"sparse", "masked", "masked, rows a panel apart"};
    for (int start = 0; start < LENGTH(starts); start++)
        for (int layout = 0; layout < LENGTH(layouts) + LENGTH(others); layout++) {
            const ptrdiff_t ld = ld_starts[start];
            copy(e, c, count);
            for (ptrdiff_t i = 0; i < n; i++)
                for (ptrdiff_t j = 0; j < width; j++) e[i * ldc + j] = starts[start][i * ld + j] + xb[i * width + j];
            const int other = layout - LENGTH(layouts);
            if (other < 0)
                f->dense(c, ldc, starts[start], ld, layouts[layout], b, ldb, n, k, width);
            else if (other == 0)
                f->sparse(c, ldc, starts[start], ld, lists, b, ldb, n, width);
            else if (other == 1)
                f->masked(c, ldc, starts[start], ld, masked, b, ldb, n, k, width);
            else
                f->masked(c, ldc, starts[start], ld, masked, spread, FM_PANEL, n, k, width);
            check(other < 0 ? "dense" : others[other], 10 * start + layout, c, e, count, k + 1, 1);
        }
}

/* Two panels at once, to the bits of one after the other. */
static void check_two_panels(const fm_kernels *f, ptrdiff_t n, ptrdiff_t k) {
    const fm_masked x = masked_of(floats(n * k, 0.5), n, k);
    const ptrdiff_t count = span(2, n * FM_PANEL + 3, n * FM_PANEL);
    const float *b = floats(span(2, k * FM_PANEL + 5, k * FM_PANEL), 1), *bias = floats(span(2, 70, FM_PANEL), 1);
    float *c = floats(count, 1), *other = take(count, sizeof *other);
    const float *froms[] = {bias, c}, *other_froms[] = {bias, other};
    const fm_apart aparts[] = {{n * FM_PANEL + 3, 70, k * FM_PANEL + 5},
                               {n * FM_PANEL + 3, n * FM_PANEL + 3, k * FM_PANEL + 5}};
    const fm_step step = {FM_ADAM, 0.5f, 0.75f, 0.875f, 0.125f, 0.9375f, 0.0625f, 0.01f, 0.5f, 0.25f};
    for (int start = 0; start < 2; start++) {
        const fm_apart apart = aparts[start];
        const ptrdiff_t ld = start * FM_PANEL;
        memcpy(other, c, (size_t)count * sizeof *c);
        f->masked_two(c, froms[start], ld, x, b, apart, n, k);
        for (int panel = 0; panel < 2; panel++)
            f->masked(other + panel * apart.c, FM_PANEL, other_froms[start] + panel * apart.start, ld, x,
                      b + panel * apart.b, FM_PANEL, n, k, FM_PANEL);
        check("masked_two", start, c, doubles(other, count), count, 1, 0);
    }
    float *p[2][3]; /* weights and moments */
    for (int array = 0; array < 3; array++) {
        p[0][array] = floats(count, 1), p[1][array] = take(count, sizeof *c);
        for (ptrdiff_t i = 0; i < count; i++) p[0][array][i] = 0.1f + fabsf(p[0][array][i]);
        memcpy(p[1][array], p[0][array], (size_t)count * sizeof *c);
    }
    f->masked_update_two(p[0][0], p[0][1], p[0][2], bias, 0, x, b, aparts[0], n, k, &step);
    for (ptrdiff_t panel = 0, place = 0; panel < 2; panel++, place += aparts[0].c)
        f->masked_update(p[1][0] + place, p[1][1] + place, p[1][2] + place, bias + panel * aparts[0].start, 0, x,
                         b + panel * aparts[0].b, FM_PANEL, n, k, FM_PANEL, &step);
    for (int array = 0; array < 3; array++)
        check("masked_update_two", array, p[0][array], doubles(p[1][array], count), count, 1, 0);
}

static void check_row_product(const fm_kernels *f, ptrdiff_t k, ptrdiff_t m) {
    const float *x = floats(k, 0.5), *weights = floats((k + 1) * m, 1);
    float *y = floats(m, 1);
    double *e = product(x, weights, m, 1, k, m);
    for (ptrdiff_t j = 0; j < m; j++) e[j] += weights[k * m + j];
    f->row_product(y, x, weights, k, m);
    check("row_product", (int)k, y, e, m, k + 1, 1);
}

static void check_listing(const fm_kernels *f, ptrdiff_t n, ptrdiff_t m) {
    const ptrdiff_t width = padded(m), ldx = width + 1;
    float *x = floats(span(n, ldx, width), 0.5);
    x[0] = NAN, x[3] = -0.0f, x[4] = -INFINITY, x[5] = FLT_TRUE_MIN;
    const fm_sparse rows = lists_of(x, ldx, 1, n, width, 1000), columns = lists_of(x, 1, ldx, width, n, 0);
    fm_entry *entries = take(n * width, sizeof *entries);
    ptrdiff_t *end = take(n, sizeof *end);
    for (ptrdiff_t i = 0; i < n; i++) {
        f->list(entries + rows.begin[i], end + i, x + i * ldx, width, 1000);
        end[i] += rows.begin[i];
    }
    check_lists(entries, end, rows, n, width, "list");
    end = take(width, sizeof *end);
    f->list_columns(entries, end, columns.begin, rows, n, width, 1000);
    check_lists(entries, end, columns, width, n, "list_columns");
}

static void check_mask(const fm_kernels *f, ptrdiff_t n) {
    float *x = floats(n * FM_PANEL, 0.5), *actual = take(n * FM_PANEL, sizeof *actual);
    double *e = take(n * FM_PANEL, sizeof *e);
    uint64_t *masks = take(n, sizeof *masks);
    x[0] = NAN, x[3] = -0.0f, x[4] = -INFINITY, x[5] = FLT_TRUE_MIN, x[63] = 1;
    f->mask(masks, x, n);
    for (ptrdiff_t i = 0; i < n * FM_PANEL; i++) {
        actual[i] = (float)(masks[i / FM_PANEL] >> i % FM_PANEL & 1);
        e[i] = x[i] != 0;
    }
    check("mask", 0, actual, e, n * FM_PANEL, 0, 0);
}

static void check_scans(const fm_kernels *f, ptrdiff_t n, ptrdiff_t m) {
    const float strange[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_TRUE_MIN, -0.0f};
    const ptrdiff_t count = 7 * n * m; /* up to more than the 65536 that are counted in 32 bits */
    float *x = floats(count, 0.5);
    for (int place = 0; place <= 2; place++)
        for (int s = 0; s < LENGTH(strange); s++) {
            int finite;
            ptrdiff_t nonzero;
            float *changed = x + (count - 1) * place / 2, before = *changed;
            *changed = strange[s];
            f->is_finite(&finite, x, count);
            f->count_nonzero(&nonzero, x, count);
            double e[] = {isfinite(strange[s]) != 0, 0};
            for (ptrdiff_t i = 0; i < count; i++) e[1] += x[i] != 0;
            *changed = before;
            check("is_finite, count_nonzero", s, (float[]){(float)finite, (float)nonzero}, e, 2, 0, 0);
        }
}

static void check_narrow(const fm_kernels *f, ptrdiff_t n) {
    /* Halfway from the largest float to what would be the next one is too large. */
    const double strange[] = {1 / 3.0, -1e-46, FLT_MAX, 0x1.FFFFFEFFFFFFFp127, -0x1.FFFFFFp127, DBL_MAX};
    const float rounded[] = {1 / 3.0f, 0, FLT_MAX, FLT_MAX, -INFINITY, INFINITY};
    double *x = take(n, sizeof *x), *e = take(n, sizeof *e);
    float *actual = take(n, sizeof *actual);
    for (ptrdiff_t i = 0; i < n; i++) x[i] = strange[i % LENGTH(strange)];
    f->narrow(actual, x, n);
    for (ptrdiff_t i = 0; i < n; i++) {
        actual[i] = (float)(actual[i] == rounded[i % LENGTH(strange)]);
        e[i] = 1;
    }
    check("narrow", 0, actual, e, n, 0, 0);
}

static void check_checksum(const fm_kernels *f, ptrdiff_t n) {
    const ptrdiff_t part = n / 4 * 2;
    uint32_t *words = take(n, sizeof *words);
    uint64_t sums[3], expected = 0;
    for (ptrdiff_t i = 0; i < n; i++) words[i] = 0xDEADBEEFu * (uint32_t)(i + 1);
    for (ptrdiff_t i = 0; i < n; i += 2) {
        const uint64_t pair = words[i] | (i + 1 < n ? (uint64_t)words[i + 1] << 32 : 0);
        const uint64_t key = (uint64_t)(i / 2 + 1) * 0x9E3779B97F4A7C15u, keyed = pair + (key ^ key >> 29);
        expected += (keyed & 0xFFFFFFFFu) * (keyed >> 32) + keyed;
    }
    f->checksum(&sums[0], words, n, 0);
    f->checksum(&sums[1], words, part, 0);
    f->checksum(&sums[2], words + part, n - part, (uint64_t)part / 2);
    float same[] = {sums[0] == expected, sums[1] + sums[2] == expected};
    check("checksum", 0, same, (double[]){1, 1}, 2, 0, 0);
}

static void check_moves(const fm_kernels *f, ptrdiff_t n, ptrdiff_t m) {
    const ptrdiff_t width = padded(m), ld = width + 1, ld_copy = m + 2, ld_turned = n + 2;
    const float *x = floats(span(n, ld, width), 1), zeros[128] = {0};
    float *copied = floats(span(n, ld_copy, m), 1), *turned = floats(span(m, ld_turned, n), 1),
          *sums = floats(width, 1), *scaled = floats(n * m, 1);
    double *e_scaled = doubles(scaled, n * m);
    double *e_copied = doubles(copied, span(n, ld_copy, m)), *e_turned = doubles(turned, span(m, ld_turned, n));
    double *e_sums = doubles(zeros, width);
    for (ptrdiff_t i = 0; i < n; i++) {
        for (ptrdiff_t j = 0; j < width; j++) e_sums[j] += x[i * ld + j];
        for (ptrdiff_t j = 0; j < m; j++) e_copied[i * ld_copy + j] = e_turned[j * ld_turned + i] = x[i * ld + j];
    }
    f->copy(copied, ld_copy, x, ld, n, m);
    check("copy", 0, copied, e_copied, span(n, ld_copy, m), 0, 0);
    f->transpose(turned, ld_turned, x, ld, n, m);
    check("transpose", 0, turned, e_turned, span(m, ld_turned, n), 0, 0);
    for (ptrdiff_t i = 0; i < n * m; i++) e_scaled[i] *= 0.75;
    f->scale(scaled, 0.75f, n * m);
    check("scale", 0, scaled, e_scaled, n * m, 1, 1);
    f->column_sums(sums, x, ld, n, width);
    check("column_sums", 0, sums, e_sums, width, n, 1);
}

static uint32_t mixed(uint32_t x, uint32_t key) {
    x = (x ^ key) * 0x9E3779B1u;
    x = (x ^ x >> 15) * 0x85EBCA77u;
    return x ^ x >> 13;
}

/* The order of n rows, number by number, and then rows of k values in that order. */
static void check_rows(const fm_kernels *f, ptrdiff_t n, ptrdiff_t k) {
    const uint32_t keys[] = {1, 1u << 31, 12345, 0xFFFFFFFFu, 7, (uint32_t)n};
    int64_t *order = take(n, sizeof *order);
    float *actual = floats(n, 1), *rows = floats(n * k, 1);
    const float *x = floats(n * k, 1);
    double *e = doubles(actual, n), *e_rows = doubles(rows, n * k);
    int bits = 10;
    while ((ptrdiff_t)1 << bits < n) bits++;
    const int low = (bits + 1) / 2;
    ptrdiff_t count = 0;
    for (uint32_t i = 0; i < (uint32_t)1 << bits; i++) {
        uint32_t a = i % (1u << low), b = i / (1u << low);
        for (int r = 0; r < 3; r++) {
            b ^= mixed(a, keys[2 * r]) % (1u << (bits - low));
            a ^= mixed(b, keys[2 * r + 1]) % (1u << low);
        }
        if (b * (1u << low) + a < n) e[count++] = b * (1u << low) + a;
    }
    f->shuffle(order, keys, n);
    for (ptrdiff_t i = 0; i < n; i++) {
        actual[i] = (float)order[i];
        for (ptrdiff_t j = 0; j < k; j++) e_rows[i * k + j] = x[(ptrdiff_t)e[i] * k + j];
    }
    check("shuffle", 0, actual, e, n, 0, 0);
    f->gather(rows, k, FM_PANEL, x, order, n, k);
    check("gather", 0, rows, e_rows, n * k, 0, 0);
}

static void check_gather(const fm_kernels *f, ptrdiff_t n, ptrdiff_t k) {
    const ptrdiff_t panels = (k + FM_PANEL - 1) / FM_PANEL, ld = FM_PANEL + 2, ld_panel = n * ld + 5;
    const float *x = floats(2 * n * k, 1);
    int64_t *rows = take(n, sizeof *rows);
    float *out = floats(panels * ld_panel, 1);
    double *e = doubles(out, panels * ld_panel);
    for (ptrdiff_t i = 0; i < n; i++) {
        rows[i] = 2 * i + i % 2;
        for (ptrdiff_t p = 0; p < k; p++) e[p / FM_PANEL * ld_panel + i * ld + p % FM_PANEL] = x[rows[i] * k + p];
    }
    f->gather(out, ld, ld_panel, x, rows, n, k);
    check("gather", 1, out, e, panels * ld_panel, 0, 0);
}

/* ---- Dropout and noise ------------------------------------------------------------------------------------------- */

static uint32_t draw(const uint32_t *key, uint32_t place) { return mixed(mixed(place, key[0]), key[1]); }

/* Of so many entries of a row, in every third column. */
static void check_drop_entries(const fm_kernels *f, ptrdiff_t n) {
    const fm_noise how = {{987654321, 123456789}, 40000, 65536 / (65536 - 40000.0f), 0, 0};
    const uint32_t row = 77, other[] = {how.key[1], how.key[0]}, key[] = {draw(how.key, row), draw(other, row)};
    fm_entry *entries = take(n, sizeof *entries), *out = take(n, sizeof *out);
    float *actual = floats(2 * n + 1, 1);
    double *e = doubles(actual, 2 * n + 1);
    ptrdiff_t count, kept = 0;
    for (int i = 0; i < n; i++) {
        const uint32_t column = (uint32_t)(3 * i), place = column / FM_PANEL * 32 + column % 32;
        entries[i] = (fm_entry){3 * i, uniform()};
        if ((draw(key, place) >> (column % FM_PANEL < 32 ? 0 : 16) & 0xFFFF) < how.dropped) continue;
        e[kept++] = 3 * i, e[kept++] = (double)entries[i].value * how.scale;
    }
    f->drop_entries(out, &count, entries, n, row, &how);
    actual[kept] = (float)count, e[kept] = (double)kept / 2;
    for (ptrdiff_t i = 0; i < kept; i += 2) actual[i] = (float)out[i / 2].index, actual[i + 1] = out[i / 2].value;
    check("drop_entries", 0, actual, e, kept + 1, 1, 0);
}

/* Of n rows of a panel, of which the last units may be padding. */
static void check_noise(const fm_kernels *f, ptrdiff_t n, ptrdiff_t panel, ptrdiff_t ld) {
    const fm_noise how = {{123456789, 987654321}, 20000, 65536 / (65536 - 20000.0f), 0.25f, 0};
    const ptrdiff_t units = ld - n % 3, count = n * ld;
    int64_t *rows = take(n, sizeof *rows);
    float *h = floats(count, 0.9), *z = floats(count, 1), *dh = floats(count, 1), *plain = floats(count, 1);
    for (ptrdiff_t i = 0; i < n; i++) rows[i] = i * i * 1000003;
    double *e_h = doubles(h, count), *e_z = doubles(z, count), *e_dh = doubles(dh, count), *e_plain = doubles(h, count);
    for (ptrdiff_t i = 0; i < count; i++) {
        const ptrdiff_t j = i % ld;
        const uint32_t row = (uint32_t)rows[i / ld], first = (uint32_t)(panel * FM_PANEL / 2 + j % 32);
        const uint32_t other[] = {how.key[1], how.key[0]}, key[] = {draw(how.key, row), draw(other, row)};
        const uint32_t bits = draw(key, first) >> (j < 32 ? 0 : 16) & 0xFFFF;
        const double length = draw(key, 0x80000000 + 2 * first) >> 9;
        const double turn = 8 * atan(1) * draw(key, 0x80000000 + 2 * first + 1) / 4294967296.0;
        const int kept = bits >= how.dropped && j < units;
        e_h[i] *= kept * how.scale, e_dh[i] *= kept * how.scale, e_plain[i] *= kept;
        if (j < units) e_z[i] += 0.25 * sqrt(-2 * log((length + 0.5) / 8388608)) * (j < 32 ? cos(turn) : sin(turn));
    }
    f->drop(h, ld, rows, &how, panel, n, units);
    f->drop_backward(dh, plain, h, count, &how);
    f->add_noise(z, ld, rows, &how, panel, n, units);
    check("drop", (int)panel, h, e_h, count, 1, 0);
    check("drop_backward", (int)panel, dh, e_dh, count, 1, 0);
    check("drop_backward, as it was", (int)panel, plain, e_plain, count, 1, 0);
    check("add_noise", (int)panel, z, e_z, count, 1, 0);
}

/* ---- Activations and losses ------------------------------------------------------------------------------------- */

static double logistic(double z) { return 1 / (1 + exp(-z)); }

static double softplus(double z) { return fmax(z, 0) + log1p(exp(-fabs(z))); }

static double normal(double z) { return erfc(-z * sqrt(0.5)) / 2; }

static double gelu_argument(double z) { return sqrt(8 / acos(-1)) * (z + 0.044715 * z * z * z); }

static double activated(double z, int activation) {
    switch (activation) {
        case FM_RELU: return z < 0 ? 0 : z;
        case FM_TANH: return tanh(z);
        case FM_LOGISTIC: return logistic(z);
        case FM_LEAKY_RELU: return z > 0 ? z : z / 100;
        case FM_ELU: return z > 0 ? z : expm1(z);
        case FM_SELU: return 1.0507009873554805 * (z > 0 ? z : 1.6732632423543772 * expm1(z));
        case FM_GELU: return z * normal(z);
        case FM_GELU_TANH: return z * logistic(gelu_argument(z));
        case FM_SILU: return z * logistic(z);
        case FM_MISH: return z * tanh(softplus(z));
        case FM_SOFTPLUS: return softplus(z);
        default: return z;
    }
}

static double derivative_by_output(double h, int activation) {
    switch (activation) {
        case FM_RELU: return h > 0;
        case FM_TANH: return 1 - h * h;
        case FM_LOGISTIC: return h * (1 - h);
        case FM_LEAKY_RELU: return h > 0 ? 1 : 0.01;
        case FM_ELU: return h > 0 ? 1 : h + 1;
        case FM_SELU: return h > 0 ? 1.0507009873554805 : h + 1.0507009873554805 * 1.6732632423543772;
        case FM_SOFTPLUS: return -expm1(-h);
        default: return 1;
    }
}

static double derivative_by_sum(double z, int activation) {
    const double s = logistic(z), t = tanh(softplus(z)), u = logistic(gelu_argument(z));
    switch (activation) {
        case FM_GELU: return normal(z) + z * exp(-z * z / 2) / sqrt(2 * acos(-1));
        case FM_GELU_TANH: return u + z * u * (1 - u) * sqrt(8 / acos(-1)) * (1 + 3 * 0.044715 * z * z);
        case FM_SILU: return s + z * s * (1 - s);
        default: return t + z * (1 - t * t) * s;
    }
}

static void check_activations(const fm_kernels *f, ptrdiff_t count) {
    const float strange[] = {0, -0.0f, 1e-40f, NAN, INFINITY, -INFINITY, 88.8f, -88.8f, -103.5f, 1e30f, -1e30f, 0.625f};
    for (int activation = FM_IDENTITY; activation <= FM_SOFTPLUS; activation++) {
        const int reads_sum = activation >= FM_GELU && activation <= FM_MISH;
        float *h = floats(count, 1), *dz = floats(count, 1), *sums = floats(count, 1);
        for (ptrdiff_t i = 0; i < count; i++) {
            sums[i] = h[i] = i < LENGTH(strange) ? strange[i] : (i % 2 ? 100 : 3) * h[i];
            if (isinf(h[i])) sums[i] = copysignf(1e30f, h[i]); /* where 0 times infinity is 0 */
        }
        double *e = doubles(h, count), *e_dz = doubles(dz, count);
        f->activate(h, count, activation);
        f->activate_backward(dz, reads_sum ? sums : h, count, activation);
        for (ptrdiff_t i = 0; i < count; i++) {
            const double z = e[i], y = h[i];
            e[i] = activated(z, activation);
            e_dz[i] *= reads_sum ? derivative_by_sum(sums[i], activation) : derivative_by_output(y, activation);
            /* Each value by its own magnitude; but what z makes of a denormal is as coarse as that, and the tanh form
             * loses what its argument is rounded by. */
            const double least = activation == FM_GELU_TANH ? 1 : reads_sum ? 1e-30 : FLT_MIN;
            const double unit = isfinite(e[i]) ? fmax(fabs(e[i]), least) : 1;
            e[i] /= unit;
            h[i] = (float)(h[i] / unit);
        }
        check("activate", activation, h, e, count, 1, 1);
        check("activate_backward", activation, dz, e_dz, count, 1, 1);
    }
}

/* Columns far from 0, where a sum of squares would cancel; the first one is constant. */
static void check_normalise(const fm_kernels *f, ptrdiff_t n, ptrdiff_t m) {
    const ptrdiff_t width = padded(m), ld = width + 3, count = span(n, ld, width);
    float *x = floats(count, 1), *h = floats(count, 1), *dh = floats(count, 1);
    float *mean = floats(width, 1), *variance = floats(width, 1), *inverse = floats(width, 1);
    float *dbias = floats(width, 1), *dscale = floats(width, 1);
    const float *scale = floats(width, 1), *bias = floats(width, 1);
    for (ptrdiff_t i = 0; i < n; i++) {
        for (ptrdiff_t j = 0; j < width; j++) x[i * ld + j] += (float)(j % 3 * 100);
        x[i * ld] = 0.3f;
    }
    double *e_x = doubles(x, count), *e_h = doubles(h, count), *e_dh = doubles(dh, count);
    double *e_mean = take(width, sizeof(double)), *e_variance = take(width, sizeof(double));
    double *e_inverse = take(width, sizeof(double)), *e_dbias = take(width, sizeof(double)),
           *e_dscale = take(width, sizeof(double));
    double terms = 1;
    for (ptrdiff_t j = 0; j < width; j++) {
        double sum = 0, squares = 0;
        for (ptrdiff_t i = 0; i < n; i++) sum += e_x[i * ld + j];
        e_mean[j] = sum / n;
        for (ptrdiff_t i = 0; i < n; i++) squares += (e_x[i * ld + j] - e_mean[j]) * (e_x[i * ld + j] - e_mean[j]);
        e_variance[j] = n > 1 ? squares / (n - 1) : 0;
        e_inverse[j] = 1 / sqrt(squares / n + 1e-5);
        e_dbias[j] = e_dscale[j] = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            const ptrdiff_t at = i * ld + j;
            e_x[at] = (e_x[at] - e_mean[j]) * e_inverse[j];
            e_h[at] = scale[j] * e_x[at] + bias[j];
            e_dbias[j] += e_dh[at];
            e_dscale[j] += e_dh[at] * e_x[at];
        }
        for (ptrdiff_t i = 0; i < n; i++) {
            const ptrdiff_t at = i * ld + j;
            terms = fmax(terms, fabs(scale[j] * e_inverse[j] * e_dh[at])); /* of two rows they all but cancel */
            e_dh[at] = scale[j] * e_inverse[j] * (e_dh[at] - e_dbias[j] / n - e_x[at] * e_dscale[j] / n);
        }
    }
    f->normalise(x, h, ld, mean, variance, inverse, scale, bias, n, width);
    check("normalise, mean", 0, mean, e_mean, width, n, 1);
    check("normalise, variance", 0, variance, e_variance, width, n, 1);
    check("normalise, inverse", 0, inverse, e_inverse, width, n, 1);
    check("normalise, x", 0, x, e_x, count, n, 1);
    check("normalise, h", 0, h, e_h, count, n, 1);
    f->normalise_backward(dh, ld, dbias, dscale, x, inverse, scale, n, width);
    check("normalise_backward, dbias", 0, dbias, e_dbias, width, n, 1);
    check("normalise_backward, dscale", 0, dscale, e_dscale, width, n, 1);
    check("normalise_backward, dh", 0, dh, e_dh, count, n, terms);
}

static void check_normalise_row(const fm_kernels *f, ptrdiff_t m) {
    float *h = floats(m, 1), *running = floats(m, 1), *variance = floats(m, 1);
    const float *bias = floats(m, 1), *scale = floats(m, 1), *mean = floats(m, 1);
    for (ptrdiff_t j = 0; j < m; j++) variance[j] = 0.1f + fabsf(variance[j]);
    double *e = doubles(h, m), *e_running = doubles(running, m);
    for (ptrdiff_t j = 0; j < m; j++) {
        e[j] = (e[j] - bias[j] - mean[j]) * scale[j] / sqrt(variance[j] + 1e-5) + bias[j];
        e_running[j] = 0.75 * e_running[j] + 0.25 * mean[j];
    }
    f->normalise_row(h, bias, scale, mean, variance, m);
    check("normalise_row", 0, h, e, m, 4, 4);
    f->blend(running, mean, 0.25f, m);
    check("blend", 0, running, e_running, m, 1, 1);
}

static void softmax_of(double *p, const double *z, ptrdiff_t m) {
    double top = z[0], sum = 0;
    for (ptrdiff_t j = 1; j < m; j++) top = fmax(top, z[j]);
    for (ptrdiff_t j = 0; j < m; j++) sum += exp(z[j] - top);
    for (ptrdiff_t j = 0; j < m; j++) p[j] = z[j] - top - log(sum); /* its logarithm */
}

/* The loss of one row; z becomes scale times its gradient. */
static double loss_of(double *z, const float *t, ptrdiff_t m, double scale, const fm_loss *how) {
    double log_p[SLOTS], dz[SLOTS], loss = 0, sum = 0;
    const double a = how->parameters ? how->parameters[0] : 0;
    softmax_of(log_p, z, m);
    for (ptrdiff_t j = 0; j < m; j++) {
        const double target = t[how->kind == FM_QUANTILE ? j / how->n_parameters : j], d = z[j] - target;
        const double p = exp(log_p[j]), rest = -expm1(log_p[j]), u = (1 - a) * target + a / (double)m;
        double level, term = 0;
        switch (how->kind) {
            case FM_CROSS_ENTROPY: dz[j] = p - u, term = -u * log_p[j]; break;
            case FM_BINARY_CROSS_ENTROPY: dz[j] = logistic(z[j]) - target, term = softplus(z[j]) - target * z[j]; break;
            case FM_SQUARED_ERROR: dz[j] = d, term = d * d / 2; break;
            case FM_FOCAL:
                term = -target * pow(rest, a) * log_p[j];
                dz[j] = target * pow(rest, a) * (a * p * (rest > 0 ? log_p[j] / rest : -1) - 1);
                break;
            case FM_ABSOLUTE_ERROR: dz[j] = (d > 0) - (d < 0), term = fabs(d); break;
            case FM_HUBER: dz[j] = fmax(-a, fmin(d, a)), term = dz[j] * (d - dz[j] / 2); break;
            case FM_QUANTILE:
                level = how->parameters[j % how->n_parameters];
                dz[j] = d > 0 ? 1 - level : d < 0 ? -level : 0, term = d * dz[j];
                break;
            default: dz[j] = exp(z[j]) - target, term = exp(z[j]) - target * z[j];
        }
        loss += term, sum += dz[j];
    }
    for (ptrdiff_t j = 0; j < m; j++) z[j] = scale * (dz[j] - (how->kind == FM_FOCAL ? exp(log_p[j]) * sum : 0));
    return loss;
}

static void check_loss(const fm_kernels *f, ptrdiff_t n, ptrdiff_t m, const fm_loss *how, int with_labels) {
    const ptrdiff_t ld = m + 2, count = span(n, ld, m);
    const int kind = how->kind, classes = kind == FM_CROSS_ENTROPY || kind == FM_FOCAL;
    const ptrdiff_t each = kind == FM_QUANTILE ? how->n_parameters : 1, width = m / each;
    const float reach = kind == FM_POISSON ? 3 : m % 2 ? 5 : 500, *scale = floats(n, 1);
    float *z = floats(count, 1), *targets = floats(n * width, 1), *loss = floats(n, 1);
    for (ptrdiff_t i = 0; i < count; i++) z[i] *= reach;
    double *e = doubles(z, count), *e_loss = doubles(loss, n);
    int64_t *labels = take(n, sizeof *labels);
    for (ptrdiff_t i = 0; i < n; i++) {
        float sum = 0, *t = targets + i * width;
        labels[i] = (int64_t)(fabsf(uniform()) * (float)m);
        for (ptrdiff_t j = 0; j < width; j++) sum += t[j] = with_labels ? j == labels[i] : fabsf(t[j]);
        for (ptrdiff_t j = 0; j < width && classes; j++) t[j] /= sum;
        e_loss[i] = loss_of(e + i * ld, t, m, scale[i], how);
    }
    f->loss(z, loss, ld, with_labels ? labels : NULL, with_labels ? NULL : targets, scale, n, m, how);
    const int is_large = kind == FM_SQUARED_ERROR || kind == FM_POISSON;
    check("loss", kind, loss, e_loss, n, m, kind == FM_POISSON ? 20 : reach);
    check("gradient of loss", kind, z, e, count, m, is_large ? 20 : kind == FM_FOCAL ? 5 : 1);
}

static void check_losses(const fm_kernels *f, ptrdiff_t n, ptrdiff_t m) {
    static const float none[] = {0}, smoothing[] = {0.25f}, gammas[] = {0, 0.5f, 2}, delta[] = {0.75f},
                       levels[] = {0.1f, 0.5f, 0.9f};
    const fm_loss losses[] = {
        {FM_CROSS_ENTROPY, 1, none}, {FM_CROSS_ENTROPY, 1, smoothing},
        {FM_FOCAL, 1, gammas},       {FM_FOCAL, 1, gammas + 1},
        {FM_FOCAL, 1, gammas + 2},   {FM_BINARY_CROSS_ENTROPY, 0, NULL},
        {FM_SQUARED_ERROR, 0, NULL}, {FM_ABSOLUTE_ERROR, 0, NULL},
        {FM_HUBER, 1, delta},        {FM_QUANTILE, 1, levels},
        {FM_POISSON, 0, NULL},
    };
    const int before = used;
    for (int i = 0; i < LENGTH(losses); i++)
        for (int with_labels = 0; with_labels < (i < 5 ? 2 : 1); with_labels++, used = before)
            check_loss(f, n, m, losses + i, with_labels);
    if (m % 3 == 0) check_loss(f, n, m, &(fm_loss){FM_QUANTILE, 3, levels}, 0);
    used = before;
}

static void check_softmax(const fm_kernels *f, ptrdiff_t n, ptrdiff_t m) {
    const ptrdiff_t ld = m + 2, count = span(n, ld, m);
    const float no_targets[128] = {0};
    float *z = floats(count, 1);
    double *e = doubles(z, count);
    for (ptrdiff_t i = 0; i < n; i++) loss_of(e + i * ld, no_targets, m, 1, &(fm_loss){FM_CROSS_ENTROPY, 0, NULL});
    f->softmax(z, ld, n, m);
    check("softmax", 0, z, e, count, m, 0);
}

/* ---- Optimizers ------------------------------------------------------------------------------------------------- */

static void step_of(double *w, double *moment_1, double *moment_2, double g, const fm_step *s) {
    if (s->clip_value != 0) g = fmax(-s->clip_value, fmin(g, s->clip_value));
    g += s->l2 * *w;
    if (s->rule == FM_ADAM) {
        *moment_1 = s->beta_1 * *moment_1 + s->one_minus_beta_1 * g;
        *moment_2 = s->beta_2 * *moment_2 + s->one_minus_beta_2 * g * g;
        *w = s->decay * *w - s->rate * *moment_1 / (sqrt(*moment_2) + s->epsilon);
    } else {
        *moment_1 = s->beta_1 * *moment_1 + g;
        *w -= s->rate * (s->rule == FM_NESTEROV ? g + s->beta_1 * *moment_1 : *moment_1);
    }
}

/* The kernels that take a step: update with a gradient b, the others with a gradient a b, never stored. */
typedef struct {
    const char *name;
    ptrdiff_t ld; /* of weights and moments */
    const fm_sparse *sparse;
    const fm_masked *masked;
    const float *start; /* which a b is added to */
} stepping;

/* The gradient that each makes of a and b is g (n, width). */
static void check_step(const fm_kernels *f, stepping how, const float *b, ptrdiff_t ldb, const double *g, ptrdiff_t n,
                       ptrdiff_t k, ptrdiff_t width, fm_step step) {
    const ptrdiff_t ld = how.ld, count = span(n, ld, width);
    float *p[] = {floats(count, 1), floats(count, 1), floats(count, 1)}; /* weights and moments */
    for (ptrdiff_t i = 0; i < count; i++) p[2][i] = 0.1f + fabsf(p[2][i]);
    double *e[] = {doubles(p[0], count), doubles(p[1], count), doubles(p[2], count)};
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0, o = i * ld; j < width; j++, o++)
            step_of(e[0] + o, e[1] + o, e[2] + o, g[i * width + j], &step);
    if (how.sparse)
        f->sparse_update(p[0], p[1], p[2], ld, *how.sparse, b, ldb, n, width, &step);
    else if (how.masked)
        f->masked_update(p[0], p[1], p[2], how.start, width, *how.masked, b, ldb, n, k, width, &step);
    else
        f->update(p[0], p[1], p[2], b, count, &step);
    for (int array = 0; array < 3; array++) check(how.name, 10 * step.rule + array, p[array], e[array], count, k, 1);
}

static void check_steps(const fm_kernels *f, stepping how, const float *b, ptrdiff_t ldb, const double *g, ptrdiff_t n,
                        ptrdiff_t k, ptrdiff_t width) {
    for (int rule = FM_SGD; rule <= FM_ADAM; rule++) {
        fm_step step = {rule, 0.5f, 0.75f, 0.875f, 0.125f, 0.9375f, 0.0625f, 0.01f, 0, 0};
        check_step(f, how, b, ldb, g, n, k, width, step);
        step.clip_value = 0.5f, step.l2 = 0.25f;
        check_step(f, how, b, ldb, g, n, k, width, step);
    }
}

static void check_update(const fm_kernels *f, ptrdiff_t count) {
    const float *dweights = floats(count, 1);
    const stepping how = {"update", count, NULL, NULL, NULL};
    check_steps(f, how, dweights, 0, doubles(dweights, count), 1, 1, count);
}

/* A norm that some columns are below and others above, then one that all are below. */
static void check_constraint(const fm_kernels *f, ptrdiff_t k, ptrdiff_t width) {
    const ptrdiff_t ld = width + 3, count = span(k, ld, width);
    float *w = floats(count, 1);
    double *e = doubles(w, count);
    const float max_norm = 0.5f * sqrtf((float)k);
    for (ptrdiff_t j = 0; j < width; j++) {
        double squares = 0;
        for (ptrdiff_t i = 0; i < k; i++) squares += e[i * ld + j] * e[i * ld + j];
        if (squares > max_norm * max_norm)
            for (ptrdiff_t i = 0; i < k; i++) e[i * ld + j] *= max_norm / sqrt(squares);
    }
    f->constrain(w, ld, k, width, max_norm);
    check("constrain", 0, w, e, count, k, 1);
    copy(e, w, count);
    f->constrain(w, ld, k, width, 2 * max_norm);
    check("constrain", 1, w, e, count, k, 0);
}

static void check_updates_of_products(const fm_kernels *f, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) {
    const ptrdiff_t ldb = width + 5;
    const float *x = floats(n * k, 0.5), *b = floats(span(k, ldb, width), 1), *start = floats(n * width, 1);
    double *g = product(x, b, ldb, n, k, width);
    const fm_sparse sparse = lists_of(x, k, 1, n, k, 0);
    const fm_masked masked = masked_of(x, n, k);
    check_steps(f, (stepping){"sparse_update", width + 3, &sparse, NULL, NULL}, b, ldb, g, n, k, width);
    for (ptrdiff_t i = 0; i < n * width; i++) g[i] += start[i];
    check_steps(f, (stepping){"masked_update", FM_PANEL, NULL, &masked, start}, b, ldb, g, n, k, width);
    b = rows_apart(b, ldb, k, width);
    check_steps(f, (stepping){"masked_update, rows a panel apart", FM_PANEL, NULL, &masked, start}, b, FM_PANEL, g, n,
                k, width);
}

/* ---- Images ----------------------------------------------------------------------------------------------------- */

/* Pixel (y, x) of the field that half of the draws' bits make, smoothed. */
static double smoothed(const fm_distortion *how, const uint32_t *key, int shift, ptrdiff_t y, ptrdiff_t x) {
    const ptrdiff_t h = how->height, w = how->width;
    double sum = 0;
    for (ptrdiff_t i = 0; i < h; i++)
        for (ptrdiff_t j = 0; j < w; j++) {
            const uint32_t bits = draw(key, (uint32_t)(FM_AFFINE + i * w + j)) >> shift & 0xFFFF;
            const double drawn = (2.0 * bits - 65535) / 65536;
            sum += how->along_columns[y * h + i] * drawn * how->along_rows[j * padded(w) + x];
        }
    return sum;
}

static double pixel(const float *image, ptrdiff_t h, ptrdiff_t w, double y, double x) {
    return y >= 0 && y < h && x >= 0 && x < w ? image[(ptrdiff_t)y * w + (ptrdiff_t)x] : 0;
}

static double between(const float *image, ptrdiff_t h, ptrdiff_t w, double y, double x) {
    const double i = floor(y), j = floor(x);
    return (1 - (y - i)) * ((1 - (x - j)) * pixel(image, h, w, i, j) + (x - j) * pixel(image, h, w, i, j + 1)) +
           (y - i) * ((1 - (x - j)) * pixel(image, h, w, i + 1, j) + (x - j) * pixel(image, h, w, i + 1, j + 1));
}

/* Smooth images, as the place that a pixel is read from has rounding errors, too. */
static void check_distort(const fm_kernels *f, ptrdiff_t h, ptrdiff_t w, int affine, int elastic) {
    fm_distortion how = {h, w, {0, 1, 1, 0, 0, 0}, {0, 1, 1, 0, 0, 0}, NULL, NULL};
    const uint32_t epoch[] = {123456789, 987654321}, row = 41, other[] = {epoch[1], epoch[0]};
    const uint32_t key[] = {draw(epoch, row), draw(other, row)};
    float *image = take(h * w, sizeof *image), *out = floats(h * w, 1);
    float *scratch = floats(4 * h * padded(w) + (h + 2) * (w + 2), 1);
    double *expected = take(h * w, sizeof *expected), drawn[FM_AFFINE];
    for (ptrdiff_t i = 0; i < h; i++)
        for (ptrdiff_t j = 0; j < w; j++) image[i * w + j] = (float)(i + 2 * j) / (float)(h + 2 * w);
    if (affine) how = (fm_distortion){h, w, {-1, 0.5f, 0.8f, -0.5f, -3, -2}, {1, 0.8f, 1.5f, 0.5f, 1, 3}, NULL, NULL};
    if (elastic) how.along_columns = floats(h * h, 0.5), how.along_rows = floats(w * padded(w), 0.5);
    f->distort(out, scratch, image, &how, epoch, row);
    for (uint32_t i = 0; i < FM_AFFINE; i++)
        drawn[i] = how.low[i] + (how.high[i] - how.low[i]) * (double)(draw(key, i) >> 8) / (1 << 24);
    for (ptrdiff_t i = 0; i < h; i++)
        for (ptrdiff_t j = 0; j < w; j++) {
            const double c = cos(drawn[FM_ROTATION]), s = sin(drawn[FM_ROTATION]);
            const double x = (double)j - 0.5 * (double)(w - 1) - drawn[FM_SHIFT_X];
            const double y = (double)i - 0.5 * (double)(h - 1) - drawn[FM_SHIFT_Y];
            double from_x = (c * x - s * y - drawn[FM_SHEAR] * (s * x + c * y)) / drawn[FM_SCALE_X];
            double from_y = (s * x + c * y) / drawn[FM_SCALE_Y];
            if (elastic) from_x += smoothed(&how, key, 0, i, j), from_y += smoothed(&how, key, 16, i, j);
            expected[i * w + j] = between(image, h, w, from_y + 0.5 * (double)(h - 1), from_x + 0.5 * (double)(w - 1));
        }
    check("distort", affine + 2 * elastic, out, expected, h * w, h * w, 1);
}

/* ---- All of it -------------------------------------------------------------------------------------------------- */

static void check_images(const fm_kernels *f, ptrdiff_t h, ptrdiff_t w) {
    used = 0, sizes[0] = h, sizes[1] = w, sizes[2] = 0;
    for (int kind = 0; kind < 4; kind++) check_distort(f, h, w, kind & 1, kind >> 1);
}

static void check_sizes(const fm_kernels *f, ptrdiff_t n, ptrdiff_t m) {
    used = 0, sizes[0] = n, sizes[1] = m, sizes[2] = 0;
    check_row_product(f, n, m);
    check_row_product(f, n + 256, m); /* the kernel lists 256 values at a time */
    check_listing(f, n, m);
    check_mask(f, n);
    check_checksum(f, n);
    check_scans(f, n, m);
    check_narrow(f, n * m);
    check_moves(f, n, m);
    check_rows(f, 20 * n, m / 8 + 1);
    check_gather(f, n, m);
    check_drop_entries(f, n);
    check_activations(f, n * m);
    check_normalise(f, n, m);
    check_normalise_row(f, m);
    check_losses(f, n, m);
    check_softmax(f, n, m);
    check_update(f, n * m);
    for (ptrdiff_t width = FM_PAD; width <= FM_PANEL; width += FM_PAD) {
        used = 0, sizes[2] = width;
        check_noise(f, n, m, width);
        check_products(f, n, m, width);
        check_updates_of_products(f, n, m, width);
        check_constraint(f, n, width);
    }
    used = 0, sizes[2] = 2 * FM_PANEL;
    check_two_panels(f, n, m);
}

/* A denormal as an operand, and one on the way to the result; before, between and after the two calls. */
static void check_denormals(void) {
    static const volatile float denormal = 1e-40f, smallest = FLT_MIN;
    const double kept[] = {1e-40f * 1e10, FLT_MIN * 0.5 * 1e10}, flushed[] = {0, 0};
    uint64_t saved;
    table = "all";
    for (int time = 0; time < 3; time++) {
        if (time == 1) fm_flush_denormals(&saved);
        const volatile float operand = denormal * 1e10f, result = smallest * 0.5f * 1e10f;
        if (time == 1) fm_restore_denormals(&saved);
        check("fm_flush_denormals", time, (float[]){operand, result}, time == 1 ? flushed : kept, 2, 1, 0);
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* so that what stands here remains, should a kernel crash */
    for (const fm_kernels *const *f = fm_compiled; *f; f++) {
        const int passed_before = passed, failed_before = failed;
        int runs;
        table = (*f)->name;
        fm_runs(&runs, *f);
        for (int i = 0; runs && i < LENGTH(SIZES); i++)
            for (int j = 0; j < LENGTH(SIZES); j++) check_sizes(*f, SIZES[i], SIZES[j]);
        for (int i = 0; runs && i < LENGTH(IMAGES); i++)
            for (int j = 0; j < LENGTH(IMAGES); j++) check_images(*f, IMAGES[i], IMAGES[j]);
        printf("%s: ", table);
        if (runs)
            printf("%d passed, %d failed\n", passed - passed_before, failed - failed_before);
        else
            puts("not on this processor");
    }
    check_denormals();
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
