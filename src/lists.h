/* Lists of non-zero values: how they are made, and the product of one row that is listed on the way. */

static void is_finite(int *finite, const float *x, ptrdiff_t n) {
    const int32_t exponent = 0x7F800000;
    int32_t found = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        found |= (bits & exponent) == exponent;
    }
    *finite = !found;
}

static void narrow(float *x, const double *in, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] = (float)in[i];
}

/* A pair of words with its place: the product of its halves, after Black et al. 1999, "UMAC: fast and secure message
 * authentication", section 4, but with keys that follow from the places and not from a secret; and the pair itself, so
 * that neither half is lost where the other one is 0. */
INLINE uint64_t pair_sum(uint64_t pair, uint64_t place) {
    const uint64_t key = (place + 1) * 0x9E3779B97F4A7C15u, keyed = pair + (key ^ key >> 29);
    return (keyed & 0xFFFFFFFFu) * (keyed >> 32) + keyed;
}

static void checksum(uint64_t *sum, const uint32_t *words, ptrdiff_t n, uint64_t first) {
    uint64_t total = 0, pair;
    for (ptrdiff_t i = 0; i < n / 2; i++) {
        memcpy(&pair, words + 2 * i, sizeof pair);
        total += pair_sum(pair, first + (uint64_t)i);
    }
    *sum = total + (n % 2 ? pair_sum(words[n - 1], first + (uint64_t)(n / 2)) : 0);
}

static void count_nonzero(ptrdiff_t *count, const float *x, ptrdiff_t n) {
    ptrdiff_t total = 0;
    while (n > 0) { /* short runs, so that the vectors count in 32 bits */
        const ptrdiff_t run = n < 65536 ? n : 65536;
        int32_t found = 0;
        for (ptrdiff_t i = 0; i < run; i++) found += x[i] != 0;
        total += found;
        x += run;
        n -= run;
    }
    *count = total;
}

#ifndef LIST_ROW
/* Without a branch: each value is written, and the next one overwrites it if it was zero. */
INLINE fm_entry *list_row(fm_entry *entry, const float *x, ptrdiff_t width, int32_t first) {
    for (ptrdiff_t j = 0; j < width; j++) {
        *entry = (fm_entry){first + (int32_t)j, x[j]};
        entry += x[j] != 0;
    }
    return entry;
}
#endif

static void list(fm_entry *entries, ptrdiff_t *count, const float *x, ptrdiff_t width, int32_t first) {
    *count = list_row(entries, x, width, first) - entries;
}

static void list_columns(fm_entry *entries, ptrdiff_t *end, const ptrdiff_t *begin, fm_sparse a, ptrdiff_t n,
                         ptrdiff_t columns, int32_t first) {
    memcpy(end, begin, (size_t)columns * sizeof *end);
    for (ptrdiff_t i = 0; i < n; i++) {
        const fm_entry *x = a.entries + a.begin[i], *last = a.entries + a.end[i];
        for (; x < last; x++) entries[end[x->index - first]++] = (fm_entry){(int32_t)i, x->value};
    }
}

#define ROW_BLOCK 256

/* y += the listed part of x, times weights. */
static void add_entries(float *y, const fm_entry *entries, ptrdiff_t count, const float *weights, ptrdiff_t m) {
    const ptrdiff_t begin = 0;
    const fm_sparse x = {entries, &begin, &count};
    const ptrdiff_t whole = m / FM_PAD * FM_PAD;
    sparse(y, 0, y, 0, x, weights, m, 1, whole);
    if (whole < m)
        for (ptrdiff_t e = 0; e < count; e++)
            for (ptrdiff_t j = whole; j < m; j++) y[j] += entries[e].value * weights[entries[e].index * m + j];
}

static void row_product(float *y, const float *x, const float *weights, ptrdiff_t k, ptrdiff_t m) {
    fm_entry entries[ROW_BLOCK];
    memcpy(y, weights + k * m, (size_t)m * sizeof *y);
    for (ptrdiff_t p = 0; p < k; p += ROW_BLOCK) {
        const ptrdiff_t rest = k - p < ROW_BLOCK ? k - p : ROW_BLOCK, whole = rest / FM_PAD * FM_PAD;
        fm_entry *end = list_row(entries, x + p, whole, (int32_t)p);
        if (whole < rest) {
            float last[FM_PAD] = {0};
            memcpy(last, x + p + whole, (size_t)(rest - whole) * sizeof *last);
            end = list_row(end, last, FM_PAD, (int32_t)(p + whole));
        }
        add_entries(y, entries, end - entries, weights, m);
    }
}
