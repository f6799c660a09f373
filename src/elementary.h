/* Elementary functions, as loops over them become vectors: exp and tanh are at most 2 ulp from correct over the whole
 * range of float, e^x - 1 and logistic 3, the normal distribution 8. */

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

/* p with e^r = 1 + r + r^2 p, for |r| <= ln 2 / 2. */
INLINE float exponential_polynomial(float r) {
    float p = 1.98756915e-4f;
    p = p * r + 1.39819994e-3f;
    p = p * r + 8.33345190e-3f;
    p = p * r + 4.16657960e-2f;
    p = p * r + 1.66666657e-1f;
    return p * r + 5.00000000e-1f;
}

/* e^x = 2^n e^r with n = round(x / ln 2): Cody & Waite's two-part ln 2, then a polynomial on |r| <= ln 2 / 2. */
INLINE float exponential(float x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the low bits */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    const float shifted = x * 1.44269504f + round;
    const float n = shifted - round;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    const float p = exponential_polynomial(r) * (r * r) + r + 1.0f;
    /* In two factors, because 2^n alone overflows before the product does, and underflows likewise. */
    const uint32_t exponent = to_bits(shifted) - 0x4B400000u;
    const uint32_t half = (uint32_t)((int32_t)exponent >> 1);
    return p * from_bits((half + 127u) << 23) * from_bits((exponent - half + 127u) << 23);
}

/* e^x - 1 = 2^n (e^r - 1) + 2^n - 1, of x up to 0: a small one is not rounded to e^x. */
INLINE float exponential_minus_one(float x) {
    const float round = 12582912.0f;
    x = x > 0.0f ? 0.0f : x;
    x = x < -25.0f ? -25.0f : x;
    const float shifted = x * 1.44269504f + round;
    const float n = shifted - round;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    const float power = from_bits((to_bits(shifted) - 0x4B400000u + 127u) << 23);
    return power * (exponential_polynomial(r) * (r * r) + r) + (power - 1.0f);
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

/* The normal distribution's Phi(x) and its density's e^(-x^2 / 2). Phi(-x) is that times a smooth function of x >= 0,
 * here a polynomial of u = (x - 3) / (x + 3): within 1e-8 of it, by least squares with Lawson's weights. What the
 * square is rounded by is taken along, since e^x would make more of it (Dekker 1971). */
INLINE void normal_distribution(float x, float *cumulative, float *bell) {
    const float magnitude = fabsf(x) > 15.0f ? 15.0f : fabsf(x), square = magnitude * magnitude;
    const float high = from_bits(to_bits(magnitude) & 0xFFFFF000u), low = magnitude - high;
    const float error = ((high * high - square) + 2.0f * high * low) + low * low;
    const float u = (magnitude - 3.0f) / (magnitude + 3.0f);
    float r = 5.3161868e-05f;
    r = r * u + 0.000115013674f;
    r = r * u - 0.000339012797f;
    r = r * u - 0.000983288162f;
    r = r * u + 0.00290438742f;
    r = r * u + 0.00613194238f;
    r = r * u - 0.0462132618f;
    r = r * u + 0.123225041f;
    r = r * u - 0.206402615f;
    r = r * u + 0.121513948f;
    *bell = exponential(-0.5f * square) * (1.0f - 0.5f * error);
    const float tail = *bell * r;
    *cumulative = x > 0.0f ? 1.0f - tail : tail;
}
