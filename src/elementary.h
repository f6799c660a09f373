/* Elementary functions, as loops over them become vectors: exp and tanh are at most 2 ulp from correct over the whole
 * range of float, logistic 3. */

INLINE float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint32_t to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* e^x = 2^n e^r with n = round(x / ln 2): Cody & Waite's two-part ln 2, then a polynomial on |r| <= ln 2 / 2. */
INLINE float exponential(float x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the low bits */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    const float shifted = x * 1.44269504f + round;
    const float n = shifted - round;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.98756915e-4f;
    p = p * r + 1.39819994e-3f;
    p = p * r + 8.33345190e-3f;
    p = p * r + 4.16657960e-2f;
    p = p * r + 1.66666657e-1f;
    p = p * r + 5.00000000e-1f;
    p = p * (r * r) + r + 1.0f;
    /* In two factors, because 2^n alone overflows before the product does, and underflows likewise. */
    const uint32_t exponent = to_bits(shifted) - 0x4B400000u;
    const uint32_t half = (uint32_t)((int32_t)exponent >> 1);
    return p * from_bits((half + 127u) << 23) * from_bits((exponent - half + 127u) << 23);
}

/* log x = e ln 2 + 2 artanh((m - 1) / (m + 1)) with x = 2^e m and m about 1; x is normal, or the result NaN. */
INLINE float natural_logarithm(float x) {
    const uint32_t root_half = 0x3F3504F3u, bits = to_bits(x) - root_half;
    const float e = (float)((int32_t)bits >> 23), m = from_bits((bits & 0x7FFFFFu) + root_half);
    const float s = (m - 1.0f) / (m + 1.0f), square = s * s;
    float p = 2.0f / 9.0f;
    p = p * square + 2.0f / 7.0f;
    p = p * square + 2.0f / 5.0f;
    p = p * square + 2.0f / 3.0f;
    return e * 0.693359375f + (e * -2.12194440e-4f + (p * square * s + (s + s))) + (x - x);
}

/* log(1 + x) = 2 artanh(x / (2 + x)) for 0 <= x <= 1, at most 2 ulp from correct: a small x is not rounded to 1 + x. */
INLINE float logarithm_of_one_plus(float x) {
    const float s = x / (2.0f + x), square = s * s;
    float p = 0.280244589f;
    p = p * square + 0.279991418f;
    p = p * square + 0.400216997f;
    p = p * square + 0.666664124f;
    return p * square * s + (s + s);
}

INLINE float hyperbolic_tangent(float x) {
    const float magnitude = fabsf(x), square = x * x;
    const float e = exponential(magnitude + magnitude);
    const float large = 1.0f - 2.0f / (e + 1.0f);
    float p = -5.70498872e-3f;
    p = p * square + 2.06390887e-2f;
    p = p * square - 5.37397155e-2f;
    p = p * square + 1.33314422e-1f;
    p = p * square - 3.33332819e-1f;
    const float small = p * square * magnitude + magnitude;
    return copysignf(magnitude < 0.625f ? small : large, x);
}

INLINE float logistic(float x) {
    const float e = exponential(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
