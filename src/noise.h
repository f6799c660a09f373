/* Dropout and Gaussian noise. What is drawn for a unit is a function of the layer's key, the row and the unit alone. */

INLINE fm_key row_key(const fm_noise *how, int64_t row) {
    return key_of((fm_key){how->key[0], how->key[1]}, (uint32_t)row + how->first);
}

/* 16 bits decide for a unit: those of a panel's first 32 are the lower halves of 32 draws, the others' the upper ones.
 */
#define HALF_PANEL (FM_PANEL / 2)
#define DROPPED (-0.0f)

INLINE void drop_row(float *restrict h, fm_key key, uint32_t dropped, float scale, ptrdiff_t panel, ptrdiff_t width) {
    uint32_t bits[FM_PANEL];
    for (int j = 0; j < HALF_PANEL; j++) {
        const uint32_t both = draw(key, (uint32_t)(panel * HALF_PANEL + j));
        bits[j] = both & 0xFFFF;
        bits[HALF_PANEL + j] = both >> 16;
    }
    /* to add 0 makes -0 of a kept unit 0, and changes nothing else */
    for (ptrdiff_t j = 0; j < width; j++) h[j] = bits[j] < dropped ? DROPPED : h[j] * scale + 0.0f;
}

static void drop(float *h, ptrdiff_t ld, const int64_t *rows, const fm_noise *how, ptrdiff_t panel, ptrdiff_t n,
                 ptrdiff_t units) {
    const uint32_t dropped = how->dropped;
    const float scale = how->scale;
    for (ptrdiff_t i = 0; i < n; i++, h += ld) {
        if (ld == FM_PANEL)
            drop_row(h, row_key(how, rows[i]), dropped, scale, panel, FM_PANEL);
        else
            drop_row(h, row_key(how, rows[i]), dropped, scale, panel, ld);
        for (ptrdiff_t j = units; j < ld; j++) h[j] = DROPPED;
    }
}

static void drop_entries(fm_entry *restrict out, ptrdiff_t *restrict count, const fm_entry *entries, ptrdiff_t n,
                         int64_t row, const fm_noise *how) {
    const fm_key key = row_key(how, row);
    const uint32_t dropped = how->dropped;
    const float scale = how->scale;
    ptrdiff_t kept = 0;
    for (; n > 0; n -= FM_PANEL, entries += FM_PANEL) {
        const int some = n < FM_PANEL ? (int)n : FM_PANEL;
        uint32_t bits[FM_PANEL];
        for (int i = 0; i < some; i++) {
            const uint32_t column = (uint32_t)entries[i].index, half = column & HALF_PANEL;
            bits[i] = draw(key, column / FM_PANEL * HALF_PANEL + column % HALF_PANEL) >> half / 2 & 0xFFFF;
        }
        for (int i = 0; i < some; i++) {
            out[kept] = (fm_entry){entries[i].index, entries[i].value * scale};
            kept += bits[i] >= dropped;
        }
    }
    *count = kept;
}

static void drop_backward(float *restrict dh, float *restrict plain, const float *restrict h, ptrdiff_t count,
                          const fm_noise *how) {
    const float kept = 1.0f / how->scale;
    for (ptrdiff_t i = 0; i < count; i++) {
        dh[i] = to_bits(h[i]) == to_bits(DROPPED) ? 0.0f : dh[i] * how->scale;
        plain[i] = h[i] * kept;
    }
}

/* Two numbers of N(0, 1) from two draws (Box & Muller 1958, A note on the generation of random normal deviates). Of the
 * first one 23 bits count, which float32 holds exactly: no number is beyond 5.8. */
INLINE void normal_pair(float *first, float *second, uint32_t length, uint32_t turn) {
    const float radius = sqrtf(-2.0f * natural_logarithm(((float)(int32_t)(length >> 9) + 0.5f) * 0x1p-23f));
    /* The nearest quarter of a turn, and the angle from there: Cephes' polynomials for |x| <= pi / 4. */
    const uint32_t quarter = (turn + 0x20000000u) >> 30;
    const float x = (float)(int32_t)(turn << 2) * (1.57079633f * 0x1p-32f), square = x * x;
    float s = -1.95152959e-4f;
    s = s * square + 8.33216087e-3f;
    s = s * square - 1.66666655e-1f;
    s = s * square * x + x;
    float c = 2.44331571e-5f;
    c = c * square - 1.38873163e-3f;
    c = c * square + 4.16666457e-2f;
    c = c * (square * square) - 0.5f * square + 1.0f;
    const float cosine = quarter & 1 ? s : c, sine = quarter & 1 ? c : s;
    *first = radius * (quarter == 1 || quarter == 2 ? -cosine : cosine);
    *second = radius * (quarter & 2 ? -sine : sine);
}

/* A panel's units j and 32 + j are a pair. Its draws lie in the other half of the row's stream than those of dropout.
 */
static void add_noise(float *z, ptrdiff_t ld, const int64_t *rows, const fm_noise *how, ptrdiff_t panel, ptrdiff_t n,
                      ptrdiff_t units) {
    for (ptrdiff_t i = 0; i < n; i++, z += ld) {
        const fm_key key = row_key(how, rows[i]);
        const uint32_t place = 0x80000000u + (uint32_t)(panel * FM_PANEL);
        float normals[FM_PANEL];
        for (int j = 0; j < HALF_PANEL; j++)
            normal_pair(normals + j, normals + HALF_PANEL + j, draw(key, place + 2 * (uint32_t)j),
                        draw(key, place + 2 * (uint32_t)j + 1));
        for (ptrdiff_t j = 0; j < units; j++) z[j] += how->deviation * normals[j];
    }
}
