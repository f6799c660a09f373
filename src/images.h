/* Images put out of shape: each pixel is read from a place nearby, between the pixels. */

/* `size` numbers a row, in rows as long as vectors make them. */
INLINE ptrdiff_t padded_row(ptrdiff_t size) { return (size + FM_PAD - 1) / FM_PAD * FM_PAD; }

/* c (n, width) = a (n, k) b (k, width), rows one after the other. */
INLINE void product(float *c, const float *a, ptrdiff_t ld_a, const float *b, ptrdiff_t n, ptrdiff_t k,
                    ptrdiff_t width) {
    static const float zeros[FM_PANEL];
    const fm_dense rows = {a, ld_a, 1, FM_PANEL};
    for (ptrdiff_t j = 0; j < width; j += FM_PANEL)
        dense(c + j, width, zeros, 0, rows, b + j, width, n, k, width - j < FM_PANEL ? width - j : FM_PANEL);
}

/* Two fields (height, width) of numbers in [-1, 1], smoothed: how far right of itself each pixel is read from, and how
 * far below. `place` is the first of the draws. scratch has room for as much. */
INLINE void displace(float *fields, float *scratch, const fm_distortion *how, fm_key key, uint32_t place) {
    const ptrdiff_t h = how->height, w = how->width, ld = padded_row(w);
    for (ptrdiff_t i = 0; i < h; i++) {
        float *restrict right = fields + i * ld, *restrict below = right + h * ld;
        for (ptrdiff_t j = 0; j < ld; j++) { /* whole vectors: the padding meets nothing */
            const uint32_t bits = draw(key, place + (uint32_t)(i * w + j));
            right[j] = (float)(2 * (int32_t)(bits & 0xFFFF) - 65535) / 65536;
            below[j] = (float)(2 * (int32_t)(bits >> 16) - 65535) / 65536;
        }
    }
    product(scratch, fields, ld, how->along_rows, 2 * h, w, ld);
    product(fields, how->along_columns, h, scratch, h, h, ld);
    product(fields + h * ld, how->along_columns, h, scratch + h * ld, h, h, ld);
}

/* The affine map from a pixel of the new image to its place in the old one: x = m[0] + m[1] column + m[2] row,
 * y = m[3] + m[4] column + m[5] row. */
INLINE void draw_affine(float *m, const fm_distortion *how, fm_key key) {
    float drawn[FM_AFFINE];
    for (int i = 0; i < FM_AFFINE; i++)
        drawn[i] = how->low[i] + (how->high[i] - how->low[i]) * ((float)(draw(key, (uint32_t)i) >> 8) / (1 << 24));
    const float c = cosf(drawn[FM_ROTATION]), s = sinf(drawn[FM_ROTATION]), shear = drawn[FM_SHEAR];
    const float x = 0.5f * (float)(how->width - 1), y = 0.5f * (float)(how->height - 1);
    m[1] = (c - shear * s) / drawn[FM_SCALE_X];
    m[2] = (-s - shear * c) / drawn[FM_SCALE_X];
    m[4] = s / drawn[FM_SCALE_Y];
    m[5] = c / drawn[FM_SCALE_Y];
    m[0] = x - m[1] * (x + drawn[FM_SHIFT_X]) - m[2] * (y + drawn[FM_SHIFT_Y]);
    m[3] = y - m[4] * (x + drawn[FM_SHIFT_X]) - m[5] * (y + drawn[FM_SHIFT_Y]);
}

#ifndef READ_BETWEEN
/* Pixels read between the four of which each place is the upper left: out (n), places and shares of the right and of
 * the lower ones (n). */
INLINE void read_between(float *restrict out, const float *image, ptrdiff_t ld, const int32_t *place,
                         const float *right, const float *below, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j++) {
        const float *four = image + place[j];
        const float upper = four[0] + right[j] * (four[1] - four[0]);
        const float lower = four[ld] + right[j] * (four[ld + 1] - four[ld]);
        out[j] = upper + below[j] * (lower - upper);
    }
}
#endif

/* A coordinate from 0 to size + 1 in a frame of size + 2, as a whole number up to size, and what it is beyond that. */
INLINE int32_t split(float *beyond, float x, float size) {
    x = x > 0 ? x : 0;
    x = x < size + 1 ? x : size + 1;
    const int32_t whole = (int32_t)(x < size ? x : size);
    *beyond = x - (float)whole;
    return whole;
}

static void distort(float *out, float *scratch, const float *image, const fm_distortion *how, const uint32_t *epoch,
                    uint32_t row) {
    const ptrdiff_t h = how->height, w = how->width, ld = padded_row(w), ld_frame = w + 2;
    const fm_key key = key_of((fm_key){epoch[0], epoch[1]}, row);
    float m[6], *fields = scratch, *frame = fields + 4 * h * ld;
    int32_t *places = (int32_t *)(fields + 2 * h * ld);
    draw_affine(m, how, key);
    if (how->along_rows)
        displace(fields, fields + 2 * h * ld, how, key, FM_AFFINE);
    else
        memset(fields, 0, (size_t)(2 * h * ld) * sizeof *fields);
    /* A frame of zeros: what lies beyond is read from there, in the same way. */
    memset(frame, 0, (size_t)((h + 2) * ld_frame) * sizeof *frame);
    for (ptrdiff_t i = 0; i < h; i++) memcpy(frame + (i + 1) * ld_frame + 1, image + i * w, (size_t)w * sizeof *image);
    for (ptrdiff_t i = 0; i < h; i++) {
        float *right = fields + i * ld, *below = right + h * ld;
        const float x = m[0] + m[2] * (float)i + 1, y = m[3] + m[5] * (float)i + 1;
        for (int32_t j = 0; j < (int32_t)ld; j++) { /* 64 bits become no float in a vector of AVX2 */
            const int32_t column = split(right + j, x + m[1] * (float)j + right[j], (float)w);
            places[j] = column + (int32_t)ld_frame * split(below + j, y + m[4] * (float)j + below[j], (float)h);
        }
        read_between(out + i * w, frame, ld_frame, places, right, below, w);
    }
}
